//! VLFeedback's `{"prompt", "img_path", "completions"}`: several rated completions of one prompt.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::fields::{Fields, missing, typed};
use super::super::rating::rating;
use super::super::row_prompt::RowPrompt;
use super::super::{Candidates, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::{Error, Result};

/// One completion and its annotations, `{aspect: {"Rating": …}}`.
#[derive(Debug, Deserialize)]
struct Completion {
    annotations: Map<String, Value>,
    response: String,
}

/// The same, column by column.
#[derive(Debug, Deserialize)]
struct Columns {
    annotations: Vec<Map<String, Value>>,
    response: Vec<String>,
}

/// A completion with the mean of its ratings; `None` where a rating is not a number.
type Rated = (String, Option<f64>);

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "vlfeedback",
    marks: Marks::Keys(&["completions"]),
    keys: Some("completions"),
    images: "img_path, images or image",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let value = fields.get("completions");
    let value = value.ok_or_else(|| missing("completions", "an object or a list of objects"))?;
    let asked = RowPrompt::read(fields)?;
    asked.is_open("completions")?;
    Ok(PreferenceRow::from(Candidates {
        prompt: asked.prompt,
        images: asked.images,
        rated: completions(value).map_err(|e| e.at("completions"))?,
    }))
}

/// Reads `completions`: lists under `annotations` and `response`, or a list of objects with these two keys.
fn completions(value: &RawValue) -> Result<Vec<Rated>> {
    let completions = match value.get().starts_with('[') {
        true => typed_by_serde(value)?,
        false => rows(typed_by_serde(value)?)?,
    };
    let rated = |(index, completion)| rate(completion).map_err(|e| e.at(format!("[{index}]")));
    completions.into_iter().enumerate().map(rated).collect()
}

/// Each shape has separate keys, so that serde's message ("missing field `response`") says more than a type's name.
fn typed_by_serde<T: serde::de::DeserializeOwned>(value: &RawValue) -> Result<T> {
    if !value.get().starts_with(['[', '{']) {
        return typed(value, "an object or a list of objects");
    }
    serde_json::from_str(value.get()).map_err(|e| {
        let place = format!(" at line {} column {}", e.line(), e.column());
        let problem = e.to_string();
        Error::invalid(problem.strip_suffix(&place).unwrap_or(&problem))
    })
}

fn rows(columns: Columns) -> Result<Vec<Completion>> {
    let (annotations, responses) = (columns.annotations.len(), columns.response.len());
    if annotations != responses {
        return Err(Error::invalid(format!(
            "expected as many annotations as responses, got {annotations} and {responses}"
        )));
    }
    let rows = columns.annotations.into_iter().zip(columns.response);
    Ok(rows
        .map(|(annotations, response)| Completion {
            annotations,
            response,
        })
        .collect())
}

fn rate(completion: Completion) -> Result<Rated> {
    let number = |(aspect, annotation): (&String, &Value)| {
        let number = annotation.get("Rating").map(rating);
        number.ok_or_else(|| Error::invalid("expected an object with a Rating").at(aspect))
    };
    let ratings: Result<Vec<_>> = completion.annotations.iter().map(number).collect();
    Ok((completion.response, mean(&ratings?)))
}

/// The mean, summed from left to right; `None` without ratings.
fn mean(ratings: &[Option<f64>]) -> Option<f64> {
    let ratings: Vec<f64> = ratings.iter().copied().collect::<Option<_>>()?;
    let sum: f64 = ratings.iter().sum();
    (!ratings.is_empty()).then(|| sum / ratings.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Rated>> {
        completions(&RawValue::from_string(json.to_owned()).unwrap())
    }

    fn rated(response: &str, score: Option<f64>) -> Rated {
        (response.to_owned(), score)
    }

    #[test]
    fn both_shapes_read_alike() {
        let columns = r#"{"annotations":[{"A":{"Rating":"4"},"B":{"Rating":5}},{"A":{"Rating":"N/A"}}],"model":["m","n"],"response":["x","y"]}"#;
        let list = r#"[{"annotations":{"A":{"Rating":"4"},"B":{"Rating":5}},"model":"m","response":"x"},{"annotations":{"A":{"Rating":"N/A"}},"model":"n","response":"y"}]"#;
        let expected = [rated("x", Some(4.5)), rated("y", None)];
        assert_eq!(read(columns).unwrap(), expected);
        assert_eq!(read(list).unwrap(), expected);
    }

    #[test]
    fn no_rating_or_a_null_is_not_a_number() {
        let list = r#"[{"annotations":{},"response":"x"},{"annotations":{"A":{"Rating":null}},"response":"y"}]"#;
        assert_eq!(read(list).unwrap(), [rated("x", None), rated("y", None)]);
    }

    #[test]
    fn broken_completions_say_what_is_missing() {
        for (json, expected) in [
            (
                r#"{"annotations":[{}],"response":[]}"#,
                "expected as many annotations as responses, got 1 and 0",
            ),
            (r#"{"annotations":[]}"#, "missing field `response`"),
            (r#"[{"response":"x"}]"#, "missing field `annotations`"),
            (
                r#"[{"annotations":{"Help":{"Rationale":""}},"response":"x"}]"#,
                "[0]: Help: expected an object with a Rating",
            ),
            (
                r#"[{"annotations":{"Help":"4"},"response":"x"}]"#,
                "[0]: Help: expected an object with a Rating",
            ),
            ("7", "expected an object or a list of objects, got a number"),
        ] {
            assert_eq!(read(json).unwrap_err().to_string(), expected, "{json}");
        }
    }
}
