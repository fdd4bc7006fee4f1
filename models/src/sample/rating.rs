//! Numbers under the rules of Python's `float()`: annotators' ratings are text.

use serde_json::Value;

use super::python_json;

/// The number of a rating; `None` for one that is not a number.
pub(super) fn rating(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => python_float(text),
        other => other.as_f64(),
    }
}

/// The number that `text` spells under Python's rules: white space around it, a sign, exponents, `nan`, `inf` and
/// `infinity` in any case, single underscores between digits. Only ASCII digits count.
pub(super) fn python_float(text: &str) -> Option<f64> {
    let text = python_json::unmarked(text).trim_matches(is_python_space);
    match text.contains('_') {
        false => text.parse().ok(),
        true if underscores_part_digits(text) => text.replace('_', "").parse().ok(),
        true => None,
    }
}

/// `str.isspace`: Unicode's white space and the four separators U+001C to U+001F.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn underscores_part_digits(text: &str) -> bool {
    let digit = |part: Option<u8>| part.is_some_and(|byte| byte.is_ascii_digit());
    let mut parts = text.split('_').map(str::as_bytes).peekable();
    while let Some(part) = parts.next() {
        let Some(next) = parts.peek() else { break };
        if !digit(part.last().copied()) || !digit(next.first().copied()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn numbers_are_read_as_python_does() {
        for (text, value) in [
            ("4", 4.0),
            (" 5 ", 5.0),
            ("\t4.5\n", 4.5),
            ("\u{3000}3\u{1c}\u{85}", 3.0),
            ("1e0", 1.0),
            ("+.5E1", 5.0),
            ("5.", 5.0),
            ("-2", -2.0),
            ("1_0", 10.0),
            ("1_0.2_5e0_1", 102.5),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(python_float(text), Some(value), "{text:?}");
        }
        for text in ["nan", " NaN", "-nan"] {
            assert!(python_float(text).is_some_and(f64::is_nan), "{text:?}");
        }
    }

    #[test]
    fn the_rest_is_no_number() {
        for text in [
            "",
            " ",
            "N/A",
            "4/5",
            "five",
            ".",
            "1e",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "1._5",
            "1e_5",
            "in_f",
            "4 5",
            "0x10",
            "\u{200b}5",
            "1,5",
            "5\0",
        ] {
            assert_eq!(python_float(text), None, "{text:?}");
        }
    }
}
