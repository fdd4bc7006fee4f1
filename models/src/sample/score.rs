//! Scoring rows: responses in, one line per response out.

use serde::Serialize;

use super::addresses::Addresses;
use super::carried::CarriedKeys;
use super::fields::Fields;
use super::image_ref::ImageRef;
use super::keys::{self, Layout};
use super::row_prompt::RowPrompt;
use crate::chat::Prompt;
use crate::{Error, Result};

/// The keys that an output line adds: a row that already carries one cannot be scored.
const ADDED: [&str; 3] = ["response", "score", "truncated"];

/// A row to score: `{"prompt", "img_path", "responses": […]}`, or messages in place of the prompt, and other keys, which
/// are carried through.
#[derive(Debug)]
pub struct ScoreRow {
    /// What the responses answer.
    pub prompt: Prompt,
    /// The images, in order.
    pub images: Vec<ImageRef>,
    /// The responses to score: at least one.
    pub responses: Vec<String>,
    /// The keys of prompt and images, with their values as JSON text.
    asked: [(&'static str, String); 2],
    /// Every other key, in the row's order, with its value as JSON text.
    carried: Vec<(String, String)>,
}

/// The reward of one response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The reward.
    pub score: f32,
    /// Whether the length limit cut the response.
    pub truncated: bool,
}

impl ScoreRow {
    /// Reads a row. Other keys are carried through.
    ///
    /// # Errors
    /// Not JSON, a key missing or of the wrong type, no responses, a key that the output has itself, or one that by name
    /// and shape holds an image, a video or turns and is not declared `carried`.
    pub fn parse(row: &str, carried: &CarriedKeys) -> Result<Self> {
        Self::of(Fields::parse(row, carried)?)
    }

    /// Reads a row whose images may be http(s) addresses, which the caller fetches.
    ///
    /// # Errors
    /// Those of [`Self::parse`], without keys that are carried.
    pub fn parse_with_addresses(row: &str) -> Result<Self> {
        let fields = Fields::parse(row, &CarriedKeys::default())?;
        Self::of(fields.with_addresses(Addresses::Kept))
    }

    fn of(fields: Fields) -> Result<Self> {
        let asked = RowPrompt::in_context(&fields)?;
        let responses = responses(&fields, &asked)?;
        let layout = Layout {
            rows: "scoring rows".to_owned(),
            images: "img_path, images or image",
        };
        keys::check_shapes(&fields, &layout)?;
        let images_key = asked.images_key.unwrap_or("img_path");
        let row = Self {
            asked: [
                (asked.key, prompt_json(&fields, asked.key)?),
                (images_key, fields.json(images_key)),
            ],
            prompt: asked.prompt,
            images: asked.images,
            responses,
            carried: fields.without(&[asked.key, images_key, "responses"]),
        };
        row.reserve()?;
        Ok(row)
    }

    /// The keys that are carried through, in the row's order, with their values as JSON text.
    pub fn carried(&self) -> impl Iterator<Item = (&str, &str)> {
        self.carried
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The output lines of the row, one per response, each with its newline: `{"prompt", "img_path", "response",
    /// "score", …carried}` with the row's keys of prompt and images, and `"truncated": true` if it is. A score is the shortest decimal that reads back as
    /// the same `f32`.
    ///
    /// # Errors
    /// Not one score per response, or a score that JSON cannot represent (NaN, infinite): the row has then failed, and no
    /// line of it is written.
    pub fn lines(&self, scores: &[Scored]) -> Result<String> {
        if scores.len() != self.responses.len() {
            return Err(Error::invalid(format!(
                "expected {} scores, got {}",
                self.responses.len(),
                scores.len()
            )));
        }
        let mut lines = String::new();
        for (index, (response, scored)) in self.responses.iter().zip(scores).enumerate() {
            let line = self.line(response, *scored);
            lines += &line.map_err(|e| e.at(format!("responses: [{index}]")))?;
            lines.push('\n');
        }
        Ok(lines)
    }

    fn line(&self, response: &str, scored: Scored) -> Result<String> {
        if !scored.score.is_finite() {
            let problem = format!("expected a finite score, got {}", scored.score);
            return Err(Error::invalid(problem));
        }
        let mut line = String::from("{");
        for (key, value) in &self.asked {
            add(&mut line, key, value)?;
        }
        add(&mut line, "response", &json(response)?)?;
        add(&mut line, "score", &json(&scored.score)?)?;
        for (key, value) in &self.carried {
            add(&mut line, key, value)?;
        }
        if scored.truncated {
            add(&mut line, "truncated", "true")?;
        }
        Ok(line + "}")
    }

    fn reserve(&self) -> Result<()> {
        match self
            .carried
            .iter()
            .find(|(name, _)| ADDED.contains(&name.as_str()))
        {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(format!(
                "{name}: the output has this key itself: rename it"
            ))),
        }
    }
}

/// The value of the prompt as JSON text: lists as they came, texts in the shortest form.
fn prompt_json(fields: &Fields, key: &str) -> Result<String> {
    match fields.is_list(key) {
        true => Ok(fields.json(key)),
        false => json(&fields.string(key)?),
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(Error::invalid)
}

/// Adds an entry to the text of an object.
fn add(line: &mut String, key: &str, value: &str) -> Result<()> {
    if line.len() > 1 {
        line.push(',');
    }
    *line += &json(key)?;
    line.push(':');
    *line += value;
    Ok(())
}

/// The responses of the row, or the answer that ends its conversation.
fn responses(fields: &Fields, asked: &RowPrompt) -> Result<Vec<String>> {
    let responses = match &asked.answer {
        Some(answer) if !fields.has("responses") => vec![answer.clone()],
        _ => {
            asked.is_open("responses")?;
            fields.strings("responses")?
        }
    };
    match responses.is_empty() {
        true => Err(Error::NoResponses.at("responses")),
        false => Ok(responses),
    }
}

/// The line of the errors file for a bad row, with its newline: `{"line", "error"}`.
pub fn error_line(line: u64, error: &Error) -> String {
    let object = serde_json::json!({ "line": line, "error": error.to_string() });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    const ROW: &str = r#"{"id": 12345678901234567890123, "prompt": "p\u00e9", "w": 0.30000000000000004, "img_path": ["a.png"], "responses": ["x", ""], "meta": {"b" : 1.0, "a": null}}"#;

    fn scored(score: f32, truncated: bool) -> Scored {
        Scored { score, truncated }
    }

    #[test]
    fn lines_carry_what_the_row_carried_as_written() {
        let row = ScoreRow::parse(ROW, &CarriedKeys::default()).unwrap();
        assert_eq!(row.images, [ImageRef::File("a.png".into())]);
        let carried: Vec<_> = row.carried().map(|(name, _)| name).collect();
        assert_eq!(carried, ["id", "w", "meta"]);
        let lines = row
            .lines(&[scored(0.1, false), scored(-3.0, true)])
            .unwrap();
        assert_eq!(
            lines,
            r#"{"prompt":"pé","img_path":["a.png"],"response":"x","score":0.1,"id":12345678901234567890123,"w":0.30000000000000004,"meta":{"b" : 1.0, "a": null}}
{"prompt":"pé","img_path":["a.png"],"response":"","score":-3.0,"id":12345678901234567890123,"w":0.30000000000000004,"meta":{"b" : 1.0, "a": null},"truncated":true}
"#
        );
    }

    #[test]
    fn a_row_of_text_alone_has_a_null_path() {
        let row = ScoreRow::parse(
            r#"{"prompt":"p","responses":["x"]}"#,
            &CarriedKeys::default(),
        )
        .unwrap();
        let line = row.lines(&[scored(1.0, false)]).unwrap();
        assert_eq!(
            line,
            "{\"prompt\":\"p\",\"img_path\":null,\"response\":\"x\",\"score\":1.0}\n"
        );
    }

    #[test]
    fn conversations_and_other_keys_of_images_are_written_as_they_came() {
        let messages = r#"[{"role":"user","content":"p"},{"role":"assistant","content":"a"}]"#;
        let answered = format!(r#"{{"id":1,"messages":{messages},"images":["a.png"]}}"#);
        let asked = r#"{"conversations":[{"from":"human","value":"<image>p"}],"image":"a.png","responses":["a"]}"#;
        let one_score = [scored(1.0, false)];
        for (row, first, expected) in [
            (
                &*answered,
                "p",
                r#"{"messages":MESSAGES,"images":["a.png"],"response":"a","score":1.0,"id":1}"#,
            ),
            (
                asked,
                "<image>p",
                r#"{"conversations":[{"from":"human","value":"<image>p"}],"image":"a.png","response":"a","score":1.0}"#,
            ),
            (
                r#"{"instruction":"p","input":"","output":"a","images":["a.png"]}"#,
                "p",
                r#"{"instruction":"p","images":["a.png"],"response":"a","score":1.0,"input":"","output":"a"}"#,
            ),
        ] {
            let row = ScoreRow::parse(row, &CarriedKeys::default()).unwrap();
            assert_eq!(row.prompt, vec![Message::user(first)].into());
            assert_eq!(
                (row.images[0].to_string(), &*row.responses[0]),
                ("a.png".to_owned(), "a")
            );
            assert_eq!(
                row.lines(&one_score).unwrap().trim_end(),
                expected.replace("MESSAGES", messages)
            );
        }
        // A number names an image elsewhere; it is no path.
        let row = r#"{"prompt":"p","responses":["x"],"image":7}"#;
        let row = ScoreRow::parse(row, &CarriedKeys::default()).unwrap();
        assert!(row.images.is_empty() && row.lines(&one_score).unwrap().contains(r#""image":7"#));
    }

    #[test]
    fn scores_read_back_as_the_same_float() {
        let row = ScoreRow::parse(
            r#"{"prompt":"p","responses":["x"]}"#,
            &CarriedKeys::default(),
        )
        .unwrap();
        let mut bits = 1u32;
        for _ in 0..2000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let score = f32::from_bits(bits);
            let Ok(line) = row.lines(&[scored(score, false)]) else {
                assert!(!score.is_finite());
                continue;
            };
            let written = line.split("\"score\":").nth(1).unwrap();
            let read: f32 = written.trim_end_matches("}\n").parse().unwrap();
            assert_eq!(read.to_bits(), bits, "{line}");
        }
    }

    #[test]
    fn a_score_that_json_cannot_hold_fails_the_row() {
        let row = ScoreRow::parse(ROW, &CarriedKeys::default()).unwrap();
        for (score, name) in [
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            let error = row.lines(&[scored(0.0, false), scored(score, false)]);
            assert_eq!(
                error.unwrap_err().to_string(),
                format!("responses: [1]: expected a finite score, got {name}")
            );
        }
        let error = row.lines(&[scored(0.0, false)]).unwrap_err();
        assert_eq!(error.to_string(), "expected 2 scores, got 1");
    }

    #[test]
    fn broken_rows_are_refused() {
        for (row, expected) in [
            (
                r#"{"prompt":"p"}"#,
                "responses: expected a list of strings, got nothing",
            ),
            (
                r#"{"prompt":"p","responses":[]}"#,
                "responses: expected at least one",
            ),
            (
                r#"{"prompt":"p","responses":"x"}"#,
                "responses: expected a list of strings, got a string",
            ),
            (
                r#"{"prompt":"p","responses":["x",null]}"#,
                "responses: [1]: expected a string, got null",
            ),
            (
                r#"{"responses":["x"]}"#,
                "prompt: expected a string, got nothing",
            ),
            (
                r#"{"prompt":"p","responses":["x"],"score":1}"#,
                "score: the output has this key itself: rename it",
            ),
            (
                r#"{"prompt":"p","responses":["x"],"truncated":null}"#,
                "truncated: the output has this key itself: rename it",
            ),
            (
                r#"{"prompt":"p","responses":["x"],"image_path":["a.png"]}"#,
                "image_path: not read in scoring rows: their images are under img_path, images or image (plain data? \
                 --carry image_path, in a training config carry: [image_path])",
            ),
            (
                r#"{"prompt":"p","responses":["x"],"images":["a.png"],"img_path":"b.png"}"#,
                "expected images under one key, got img_path and images",
            ),
            (
                r#"{"prompt":"p","responses":["x"],"messages":[]}"#,
                "expected one prompt, got prompt and messages",
            ),
            (
                r#"{"responses":["x"],"instruction":"p","output":"a"}"#,
                "expected responses, or a last message of role assistant, got both",
            ),
            (
                r#"{"responses":["x"],"messages":[]}"#,
                "messages: expected a last message of role user before the response",
            ),
            (
                r#"{"responses":["x"],"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
                "expected responses, or a last message of role assistant, got both",
            ),
            (
                r#"{"responses":["x"],"messages":[{"role":"user","content":"<image>"}]}"#,
                "messages: expected one <image> in the prompt for each image, or none at all: got 1 for 0 images",
            ),
        ] {
            let error = ScoreRow::parse(row, &CarriedKeys::default()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{row}");
        }
    }

    #[test]
    fn errors_are_written_with_their_line() {
        let error = Error::invalid("got \"x\"").at("img_path");
        assert_eq!(
            error_line(7, &error),
            "{\"line\":7,\"error\":\"img_path: got \\\"x\\\"\"}\n"
        );
    }
}
