//! Training rows: preference pairs, written out or derived from ratings, and supervised ones.

use super::fields::Fields;
use super::vlfeedback::{self, Rated, Verdict};
use crate::{Error, Result};

/// One prompt, a better and a worse response. Image paths are as written in the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What the user asks, without the conversation template.
    pub prompt: String,
    /// The preferred response.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// The images seen with `chosen`, in order; none for a row of text alone.
    pub chosen_images: Vec<String>,
    /// The images seen with `rejected`: the same ones, unless the row names its own.
    pub rejected_images: Vec<String>,
}

/// A preference row as written.
#[derive(Clone, Debug, PartialEq)]
pub enum PreferenceRow {
    /// `{"prompt", "img_path", "chosen", "rejected"}`, or with `chosen_img_path` and `rejected_img_path`.
    Pairwise(Pair),
    /// `{"prompt", "img_path", "completions"}`: rated completions, which make up the pairs of [`Expanded`].
    VlFeedback(Expanded),
}

/// The pairs of a row, and how many combinations of its completions made none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// In the order of Python's `itertools.combinations`; the completion with the higher mean rating is chosen.
    pub pairs: Vec<Pair>,
    /// Dropped because neither mean is higher: equal, or one is NaN.
    pub ties_dropped: usize,
    /// Dropped because a rating of one of the two is not a number (`N/A`).
    pub non_numeric_dropped: usize,
}

/// A row of next-token training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sft {
    /// What the user asks, without the conversation template.
    pub prompt: String,
    /// What the model learns to say.
    pub response: String,
    /// The images, in order.
    pub images: Vec<String>,
}

impl PreferenceRow {
    /// Reads a row of either format; `completions` tells them apart.
    ///
    /// # Errors
    /// Not JSON, a key missing or of the wrong type, or keys of both formats.
    pub fn parse(row: &str) -> Result<Self> {
        let fields = Fields::parse(row)?;
        match (fields.has("completions"), is_pairwise(&fields)) {
            (true, true) => Err(Error::invalid(
                "expected completions or chosen and rejected, got both",
            )),
            (true, false) => expand(&fields).map(Self::VlFeedback),
            (false, true) => pair(&fields).map(Self::Pairwise),
            (false, false) => Err(Error::invalid(
                "expected chosen and rejected, or completions",
            )),
        }
    }
}

/// The preference pairs of a row of either format.
///
/// # Errors
/// As [`PreferenceRow::parse`].
pub fn pairs(row: &str) -> Result<Expanded> {
    Ok(match PreferenceRow::parse(row)? {
        PreferenceRow::VlFeedback(expanded) => expanded,
        PreferenceRow::Pairwise(pair) => Expanded {
            pairs: vec![pair],
            ..Expanded::default()
        },
    })
}

/// Reads a supervised row, `{"prompt", "img_path", "response"}`, or takes the chosen side of a pair.
///
/// # Errors
/// Not JSON, a key missing or of the wrong type, or both `response` and `chosen`.
pub fn sft(row: &str) -> Result<Sft> {
    let fields = Fields::parse(row)?;
    let (response, images) = match (fields.has("response"), fields.has("chosen")) {
        (true, false) => (fields.string("response")?, fields.images("img_path")?),
        (false, true) => (fields.string("chosen")?, sides(&fields)?.0),
        (true, true) => {
            return Err(Error::invalid("expected response or chosen, got both"));
        }
        (false, false) => return Err(Error::invalid("expected response or chosen")),
    };
    Ok(Sft {
        prompt: fields.string("prompt")?,
        response,
        images,
    })
}

fn is_pairwise(fields: &Fields) -> bool {
    fields.has("chosen") || fields.has("rejected")
}

fn pair(fields: &Fields) -> Result<Pair> {
    let (chosen_images, rejected_images) = sides(fields)?;
    Ok(Pair {
        prompt: fields.string("prompt")?,
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images,
        rejected_images,
    })
}

/// The images of the chosen and of the rejected side: shared, or one key for each.
fn sides(fields: &Fields) -> Result<(Vec<String>, Vec<String>)> {
    let (chosen, rejected) = ("chosen_img_path", "rejected_img_path");
    match (fields.has(chosen), fields.has(rejected)) {
        (false, false) => fields
            .images("img_path")
            .map(|images| (images.clone(), images)),
        (true, true) if !fields.has("img_path") => {
            Ok((fields.images(chosen)?, fields.images(rejected)?))
        }
        _ => Err(Error::invalid(
            "expected img_path, or chosen_img_path and rejected_img_path (an empty list for no image)",
        )),
    }
}

fn expand(fields: &Fields) -> Result<Expanded> {
    let prompt = fields.string("prompt")?;
    let images = fields.images("img_path")?;
    let completions = fields.get("completions").map(vlfeedback::completions);
    let rated = completions
        .transpose()
        .map_err(|e| e.at("completions"))?
        .unwrap_or_default();
    let pair = |better: &Rated, worse: &Rated| Pair {
        prompt: prompt.clone(),
        chosen: better.response.clone(),
        rejected: worse.response.clone(),
        chosen_images: images.clone(),
        rejected_images: images.clone(),
    };
    let mut expanded = Expanded::default();
    for (first, second) in vlfeedback::combinations(&rated) {
        match vlfeedback::verdict(first, second) {
            Verdict::First => expanded.pairs.push(pair(first, second)),
            Verdict::Second => expanded.pairs.push(pair(second, first)),
            Verdict::Tie => expanded.ties_dropped += 1,
            Verdict::NonNumeric => expanded.non_numeric_dropped += 1,
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Lines;
    use super::*;
    use serde_json::Value;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/");

    fn golden_rows(file: &str) -> Vec<String> {
        let lines = Lines::open(format!("{GOLDEN}{file}")).unwrap();
        lines.map(|item| item.unwrap().1.unwrap()).collect()
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    /// The same completions as the hub writes them: a list of objects.
    fn as_on_the_hub(row: &str) -> String {
        let mut row: Value = serde_json::from_str(row).unwrap();
        let columns = row["completions"].take();
        let completion = |index: usize| {
            let of = |key: &str| (key.to_owned(), columns[key][index].clone());
            Value::Object(
                ["annotations", "model", "response"]
                    .map(of)
                    .into_iter()
                    .collect(),
            )
        };
        let count = columns["response"].as_array().unwrap().len();
        row["completions"] = (0..count).map(completion).collect();
        row.to_string()
    }

    fn expand_all(rows: impl Iterator<Item = String>) -> Expanded {
        let mut all = Expanded::default();
        for row in rows {
            let row = pairs(&row).unwrap();
            all.pairs.extend(row.pairs);
            all.ties_dropped += row.ties_dropped;
            all.non_numeric_dropped += row.non_numeric_dropped;
        }
        all
    }

    #[test]
    fn vlfeedback_expands_as_published() {
        let golden = std::fs::read_to_string(format!("{GOLDEN}vlfeedback_pairs.json")).unwrap();
        let golden: Value = serde_json::from_str(&golden).unwrap();
        let rows = golden_rows("vlfeedback.jsonl");
        let expanded = expand_all(rows.iter().cloned());
        assert_eq!(
            expand_all(rows.iter().map(|row| as_on_the_hub(row))),
            expanded
        );

        let expected = golden["pairs"].as_array().unwrap();
        assert_eq!(expanded.pairs.len(), expected.len());
        for (pair, expected) in expanded.pairs.iter().zip(expected) {
            assert_eq!(pair.prompt, expected["prompt"]);
            assert_eq!(pair.chosen, expected["chosen"]);
            assert_eq!(pair.rejected, expected["rejected"]);
            assert_eq!(pair.chosen_images, [expected["img_path"].as_str().unwrap()]);
            assert_eq!(pair.rejected_images, pair.chosen_images);
        }
        let dropped = expanded.ties_dropped + expanded.non_numeric_dropped;
        assert_eq!(golden["skipped"], dropped);
        assert_eq!(expanded.non_numeric_dropped, 3 + 6, "rows 1 and 3 have N/A");
    }

    #[test]
    fn golden_pairwise_rows_are_read() {
        let expanded = expand_all(golden_rows("pairwise.jsonl").into_iter());
        assert_eq!(expanded.pairs.len(), 12);
        assert_eq!(expanded.pairs[4].chosen, "答案是 teal。");
        assert_eq!(expanded.pairs[4].chosen_images, ["../images/train_4.png"]);
    }

    #[test]
    fn a_pair_may_have_an_image_for_each_side() {
        let row = r#"{"prompt":"p","chosen":"c","rejected":"r","chosen_img_path":"a.png","rejected_img_path":["b.png","d.png"]}"#;
        let pair = pairs(row).unwrap().pairs.remove(0);
        assert_eq!(pair.chosen_images, ["a.png"]);
        assert_eq!(pair.rejected_images, ["b.png", "d.png"]);
        assert_eq!(sft(row).unwrap().images, ["a.png"]);
    }

    #[test]
    fn a_pair_may_have_no_image() {
        for images in ["", r#","img_path":null"#, r#","img_path":[]"#] {
            let row = format!(r#"{{"prompt":"p","chosen":"c","rejected":""{images}}}"#);
            assert_eq!(pairs(&row).unwrap().pairs[0].chosen_images, [""; 0]);
        }
    }

    #[test]
    fn broken_rows_say_what_is_missing() {
        let sides = "expected img_path, or chosen_img_path and rejected_img_path (an empty list for no image)";
        for (row, expected) in [
            ("{}", "expected chosen and rejected, or completions"),
            (
                r#"{"prompt":"p","chosen":"c"}"#,
                "rejected: expected a string, got nothing",
            ),
            (
                r#"{"chosen":"c","rejected":"r"}"#,
                "prompt: expected a string, got nothing",
            ),
            (
                r#"{"prompt":"p","chosen":"c","rejected":["r"]}"#,
                "rejected: expected a string, got a list",
            ),
            (
                r#"{"prompt":"p","chosen":"c","rejected":"r","completions":[]}"#,
                "expected completions or chosen and rejected, got both",
            ),
            (
                r#"{"prompt":"p","chosen":"c","rejected":"r","chosen_img_path":"a"}"#,
                sides,
            ),
            (
                r#"{"prompt":"p","chosen":"c","rejected":"r","img_path":"i","chosen_img_path":"a","rejected_img_path":"b"}"#,
                sides,
            ),
            (
                r#"{"prompt":"p","completions":[3]}"#,
                "completions: invalid type: integer `3`, expected struct Completion",
            ),
        ] {
            assert_eq!(message(pairs(row)), expected, "{row}");
        }
    }

    #[test]
    fn supervised_rows_have_a_response_or_a_chosen_one() {
        let row = sft(r#"{"prompt":"p","img_path":"i","response":"r"}"#).unwrap();
        assert_eq!((row.response.as_str(), row.images.len()), ("r", 1));
        let row = sft(r#"{"prompt":"p","chosen":"c","rejected":"x"}"#).unwrap();
        assert_eq!(row.response, "c");
        assert_eq!(
            message(sft(r#"{"prompt":"p"}"#)),
            "expected response or chosen"
        );
        assert_eq!(
            message(sft(r#"{"prompt":"p","chosen":"c","response":"r"}"#)),
            "expected response or chosen, got both"
        );
    }
}
