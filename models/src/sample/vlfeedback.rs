//! VLFeedback rows: several rated completions of one prompt, compared two by two.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fields::typed;
use super::rating::python_float;
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
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rated {
    pub(super) response: String,
    pub(super) score: Option<f64>,
}

/// Which of two completions is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    First,
    Second,
    /// The means are equal, or one is NaN.
    Tie,
    /// A rating of one of them is not a number.
    NonNumeric,
}

/// Reads `completions`: lists under `annotations` and `response`, or a list of objects with these two keys.
pub(super) fn completions(value: &RawValue) -> Result<Vec<Rated>> {
    let completions = match value.get().starts_with('[') {
        true => typed_by_serde(value)?,
        false => rows(typed_by_serde(value)?)?,
    };
    let rated = |(index, completion)| rate(completion).map_err(|e| e.at(format!("[{index}]")));
    completions.into_iter().enumerate().map(rated).collect()
}

/// All pairs in the order of Python's `itertools.combinations`.
pub(super) fn combinations(rated: &[Rated]) -> impl Iterator<Item = (&Rated, &Rated)> {
    rated
        .iter()
        .enumerate()
        .flat_map(|(index, first)| rated[index + 1..].iter().map(move |second| (first, second)))
}

/// Compares the means as Python compares floats.
pub(super) fn verdict(first: &Rated, second: &Rated) -> Verdict {
    match (first.score, second.score) {
        (Some(a), Some(b)) if a > b => Verdict::First,
        (Some(a), Some(b)) if a < b => Verdict::Second,
        (Some(_), Some(_)) => Verdict::Tie,
        _ => Verdict::NonNumeric,
    }
}

/// Both shapes have keys of their own, so serde's message ("missing field `response`") says more than a type's name.
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
    let rating = |(aspect, annotation): (&String, &Value)| {
        let rating = annotation.get("Rating");
        rating
            .map(number)
            .ok_or_else(|| Error::invalid("expected an object with a Rating").at(aspect))
    };
    let ratings: Result<Vec<_>> = completion.annotations.iter().map(rating).collect();
    Ok(Rated {
        score: mean(&ratings?),
        response: completion.response,
    })
}

fn number(rating: &Value) -> Option<f64> {
    match rating {
        Value::String(text) => python_float(text),
        other => other.as_f64(),
    }
}

/// The mean, summed from left to right; without ratings there is none.
fn mean(ratings: &[Option<f64>]) -> Option<f64> {
    let ratings: Vec<f64> = ratings.iter().copied().collect::<Option<_>>()?;
    let sum: f64 = ratings.iter().sum();
    (!ratings.is_empty()).then(|| sum / ratings.len() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(json: &str) -> Result<Vec<Rated>> {
        completions(&RawValue::from_string(json.to_owned()).unwrap())
    }

    fn rated(response: &str, score: Option<f64>) -> Rated {
        Rated {
            response: response.to_owned(),
            score,
        }
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
    fn verdicts_follow_pythons_comparisons() {
        let of = |a, b| verdict(&rated("", a), &rated("", b));
        assert_eq!(of(Some(2.0), Some(1.0)), Verdict::First);
        assert_eq!(of(Some(1.0), Some(f64::INFINITY)), Verdict::Second);
        assert_eq!(of(Some(1.0), Some(1.0)), Verdict::Tie);
        assert_eq!(of(Some(f64::NAN), Some(1.0)), Verdict::Tie);
        assert_eq!(of(None, Some(f64::NAN)), Verdict::NonNumeric);
    }

    #[test]
    fn combinations_come_in_pythons_order() {
        let rated: Vec<_> = ["a", "b", "c", "d"].map(|name| rated(name, None)).into();
        let names: Vec<_> = combinations(&rated)
            .map(|(a, b)| format!("{}{}", a.response, b.response))
            .collect();
        assert_eq!(names, ["ab", "ac", "ad", "bc", "bd", "cd"]);
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
