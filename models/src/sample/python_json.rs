//! JSON as Python's `json` module writes it: with `NaN`, `Infinity` and `-Infinity`, which JSON has not.

/// A character that belongs to no script and marks strings which stand for such a word.
const MARK: char = '\u{10FFFD}';
const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The row with marked strings in place of these words; `None` if it has none, or has the mark itself.
pub(super) fn quoted(row: &str) -> Option<String> {
    if row.contains(MARK) {
        return None;
    }
    let (mut text, mut rest) = (String::with_capacity(row.len() + 64), row);
    while let Some((before, word, after)) = next_word(rest) {
        text += &format!("{before}\"{MARK}{word}\"");
        rest = after;
    }
    (rest.len() < row.len()).then(|| text + rest)
}

/// A text with the words of marked strings.
pub(super) fn restored(json: &str) -> String {
    let words = WORDS.iter();
    words.fold(json.to_owned(), |json, word| {
        json.replace(&format!("\"{MARK}{word}\""), word)
    })
}

/// The text of a string without the mark.
pub(super) fn unmarked(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Whether `json` is a marked string.
pub(super) fn is_marked(json: &str) -> bool {
    json.starts_with(['"']) && json[1..].starts_with(MARK)
}

/// The first word outside of strings, with the text around it.
fn next_word(text: &str) -> Option<(&str, &'static str, &str)> {
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let (before, rest) = text.split_at(at);
                if let Some((word, after)) = WORDS.iter().find_map(|word| value(rest, word)) {
                    return Some((before, word, after));
                }
            }
            _ => {}
        }
    }
    None
}

/// `word` and the text after it, if `text` begins with that value.
fn value<'a>(text: &'a str, word: &'static str) -> Option<(&'static str, &'a str)> {
    let after = text.strip_prefix(word)?;
    let is_value = after.trim_start().starts_with([',', ']', '}']);
    is_value.then_some((word, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_outside_of_strings_alone() {
        let row = r#"{"a":NaN,"b":[-Infinity ,Infinity],"c":"x\"NaN,","NaN":-1}"#;
        let quoted = quoted(row).unwrap();
        let value: serde_json::Value = serde_json::from_str(&quoted).unwrap();
        assert_eq!(unmarked(value["a"].as_str().unwrap()), "NaN");
        assert_eq!(value["c"], "x\"NaN,");
        assert_eq!(restored(&quoted), row);
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        for row in [
            "{}",
            r#"{"a":-1}"#,
            r#"{"a":"NaN"}"#,
            "{NaN:1}",
            "NaN",
            r#"{"a":NaNs}"#,
        ] {
            assert_eq!(quoted(row), None, "{row}");
        }
        assert_eq!(quoted("[NaN,\"\u{10FFFD}\"]"), None);
    }
}
