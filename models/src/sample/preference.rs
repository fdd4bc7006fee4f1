//! Preferences: the common content of the rows of every format.

use super::image_ref::ImageRef;
use crate::chat::Prompt;

/// One prompt, a better and a worse response. Image paths are those of the row.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// What the responses answer.
    pub prompt: Prompt,
    /// The preferred response.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// The images seen with `chosen`, in order; none for a row of text alone.
    pub chosen_images: Vec<ImageRef>,
    /// The images seen with `rejected`: the same ones, unless the row names others.
    pub rejected_images: Vec<ImageRef>,
    /// The minimum by which the reward of `chosen` should be higher; 0 unless the row has one.
    pub margin: f64,
}

/// The rated responses to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// What the responses answer.
    pub prompt: Prompt,
    /// The images, in order.
    pub images: Vec<ImageRef>,
    /// Responses with their ratings; `None` for a rating that is not a number.
    pub rated: Vec<(String, Option<f64>)>,
}

/// The category of a row in its benchmark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// A unit of macro accuracy.
    pub area: String,
    /// A part of the area.
    pub part: Option<String>,
}

/// A preference row of any format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreferenceRow {
    /// The pair of the row, or of rated responses all that differ, in the order of Python's
    /// `itertools.combinations`.
    pub pairs: Vec<Pair>,
    /// The rated responses, if the row has ratings.
    pub candidates: Option<Candidates>,
    /// Pairs dropped because neither rating is higher: equal, or one is NaN.
    pub ties_dropped: usize,
    /// Pairs dropped because one of the ratings is not a number (`N/A`).
    pub non_numeric_dropped: usize,
    /// Its category in the benchmark.
    pub group: Option<Group>,
    /// The question that it shares with other rows, if its benchmark counts questions.
    pub question: Option<String>,
}

/// The better one of two responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    First,
    Second,
    Tie,
    NonNumeric,
}

impl From<Pair> for PreferenceRow {
    fn from(pair: Pair) -> Self {
        Self {
            pairs: vec![pair],
            ..Self::default()
        }
    }
}

impl From<Candidates> for PreferenceRow {
    /// Compares all responses two by two.
    fn from(candidates: Candidates) -> Self {
        let pair = |better: &str, worse: &str| Pair {
            prompt: candidates.prompt.clone(),
            chosen: better.to_owned(),
            rejected: worse.to_owned(),
            chosen_images: candidates.images.clone(),
            rejected_images: candidates.images.clone(),
            margin: 0.0,
        };
        let mut row = Self::default();
        for ((first, a), (second, b)) in combinations(&candidates.rated) {
            match verdict(*a, *b) {
                Verdict::First => row.pairs.push(pair(first, second)),
                Verdict::Second => row.pairs.push(pair(second, first)),
                Verdict::Tie => row.ties_dropped += 1,
                Verdict::NonNumeric => row.non_numeric_dropped += 1,
            }
        }
        row.candidates = Some(candidates);
        row
    }
}

/// All pairs in the order of Python's `itertools.combinations`.
fn combinations<T>(items: &[T]) -> impl Iterator<Item = (&T, &T)> {
    let after = |index: usize| items[index + 1..].iter();
    items
        .iter()
        .enumerate()
        .flat_map(move |(index, first)| after(index).map(move |second| (first, second)))
}

/// Compares as Python compares floats: with NaN nothing is higher.
fn verdict(first: Option<f64>, second: Option<f64>) -> Verdict {
    match (first, second) {
        (Some(a), Some(b)) if a > b => Verdict::First,
        (Some(a), Some(b)) if a < b => Verdict::Second,
        (Some(_), Some(_)) => Verdict::Tie,
        _ => Verdict::NonNumeric,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_pythons_comparisons() {
        assert_eq!(verdict(Some(2.0), Some(1.0)), Verdict::First);
        assert_eq!(verdict(Some(1.0), Some(f64::INFINITY)), Verdict::Second);
        assert_eq!(verdict(Some(1.0), Some(1.0)), Verdict::Tie);
        assert_eq!(verdict(Some(f64::NAN), Some(1.0)), Verdict::Tie);
        assert_eq!(verdict(None, Some(f64::NAN)), Verdict::NonNumeric);
    }

    #[test]
    fn combinations_come_in_pythons_order() {
        let names: Vec<_> = combinations(&["a", "b", "c", "d"])
            .map(|(a, b)| format!("{a}{b}"))
            .collect();
        assert_eq!(names, ["ab", "ac", "ad", "bc", "bd", "cd"]);
    }
}
