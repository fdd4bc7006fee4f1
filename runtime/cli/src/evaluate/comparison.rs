//! Rows of every format as what they all come to: requests, and which response should beat which.

use serde::Deserialize;
use serde::de::IgnoredAny;

use seeward_models::sample::{self, Pair, ScoreRow};
use seeward_models::{Error, Result};
use seeward_runtime::{Image, Request, Scores};

use crate::image_folder::ImageFolder;

/// A row: each of its responses once, and its comparisons.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) requests: Vec<Request>,
    comparisons: Vec<Comparison>,
}

/// `better` should have the greater reward.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Comparison {
    better: Place,
    worse: Place,
}

/// A response among a row's requests.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    request: usize,
    response: usize,
}

/// What tells a scoring row from a preference row.
#[derive(Deserialize)]
struct Kind {
    responses: Option<IgnoredAny>,
    chosen_index: Option<usize>,
}

impl Row {
    /// Reads a row: pairwise, VLFeedback, or responses with a `chosen_index`.
    ///
    /// # Errors
    /// Not JSON, or none of the three.
    pub(super) fn parse(text: &str, images: &ImageFolder) -> Result<Self> {
        let kind: Kind = serde_json::from_str(text).map_err(Error::invalid)?;
        let pairs = match kind.responses {
            Some(_) => best_against_others(&ScoreRow::parse(text)?, kind.chosen_index)?,
            None => sample::pairs(text)?.pairs,
        };
        let mut row = Self::default();
        for pair in &pairs {
            row.push(pair, images)?;
        }
        Ok(row)
    }

    /// For each comparison the better response's reward minus the other's, given the requests' scores in order.
    pub(super) fn margins(&self, scores: &[Scores]) -> Vec<f64> {
        let reward = |place: Place| f64::from(scores[place.request].rewards[place.response]);
        let margin = |c: &Comparison| reward(c.better) - reward(c.worse);
        self.comparisons.iter().map(margin).collect()
    }

    fn push(&mut self, pair: &Pair, images: &ImageFolder) -> Result<()> {
        let mut place = |paths: &[String], response: &str| {
            let resolve = |path: &String| images.resolve(path).map(Image::Path);
            let images = paths.iter().map(resolve).collect::<Result<_>>()?;
            Ok(self.place(&pair.prompt, images, response))
        };
        let better = place(&pair.chosen_images, &pair.chosen)?;
        let worse = place(&pair.rejected_images, &pair.rejected)?;
        self.comparisons.push(Comparison { better, worse });
        Ok(())
    }

    /// Where a response is, added if it is new.
    fn place(&mut self, prompt: &str, images: Vec<Image>, response: &str) -> Place {
        let request = find_or_push(
            &mut self.requests,
            |r| r.images == images,
            || Request {
                prompt: prompt.to_owned(),
                images: images.clone(),
                responses: Vec::new(),
            },
        );
        let responses = &mut self.requests[request].responses;
        let response = find_or_push(responses, |r| r == response, || response.to_owned());
        Place { request, response }
    }
}

fn find_or_push<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl Fn() -> T) -> usize {
    list.iter().position(is_it).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    })
}

/// The chosen response should beat each of the others.
fn best_against_others(row: &ScoreRow, chosen: Option<usize>) -> Result<Vec<Pair>> {
    let count = row.responses.len();
    let chosen = chosen.filter(|&chosen| chosen < count).ok_or_else(|| {
        Error::invalid(format!(
            "chosen_index: expected the place of the best of {count} responses"
        ))
    })?;
    let pair = |other: usize| Pair {
        prompt: row.prompt.clone(),
        chosen: row.responses[chosen].clone(),
        rejected: row.responses[other].clone(),
        chosen_images: row.images.clone(),
        rejected_images: row.images.clone(),
    };
    Ok((0..count)
        .filter(|&other| other != chosen)
        .map(pair)
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Result<Row> {
        Row::parse(
            text,
            &ImageFolder::new(None, false, Path::new("data/rows.jsonl")).unwrap(),
        )
    }

    fn margins(text: &str, rewards: &[&[f32]]) -> Vec<f64> {
        let row = parse(text).unwrap();
        let scores = |(request, rewards): (&Request, &&[f32])| {
            assert_eq!(request.responses.len(), rewards.len());
            Scores {
                rewards: rewards.to_vec(),
                truncated: vec![false; rewards.len()],
            }
        };
        assert_eq!(row.requests.len(), rewards.len());
        row.margins(
            &row.requests
                .iter()
                .zip(rewards)
                .map(scores)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_pair_is_one_comparison() {
        let text = r#"{"prompt": "p", "img_path": "a.png", "chosen": "x", "rejected": "y"}"#;
        assert_eq!(margins(text, &[&[2.0, 0.5]]), [1.5]);
        let image = parse(text).unwrap().requests[0].images[0].clone();
        assert_eq!(image, Image::Path("data/a.png".into()));
    }

    #[test]
    fn sides_with_images_of_their_own_are_two_requests() {
        let text = r#"{"prompt": "p", "chosen_img_path": "a.png", "rejected_img_path": "b.png", "chosen": "x", "rejected": "x"}"#;
        assert_eq!(margins(text, &[&[2.0], &[3.0]]), [-1.0]);
    }

    #[test]
    fn a_chosen_response_is_compared_with_each_other_one() {
        let text = r#"{"prompt": "p", "img_path": "a.png", "responses": ["x", "y", "z"], "chosen_index": 1}"#;
        // Requests hold y, x, z: each response once, in the order in which comparisons name them.
        assert_eq!(margins(text, &[&[1.0, 0.0, 4.0]]), [1.0, -3.0]);
    }

    #[test]
    fn a_rated_row_scores_each_response_once() {
        let rated = |n| format!(r#"{{"Helpfulness": {{"Rating": "{n}"}}}}"#);
        let annotations = [rated(3), rated(5), rated(1)].join(",");
        let text = format!(
            r#"{{"prompt": "p", "img_path": "a.png", "completions": {{"annotations": [{annotations}], "model": ["a", "b", "c"], "response": ["x", "y", "z"]}}}}"#
        );
        let row = parse(&text).unwrap();
        assert_eq!(row.requests[0].responses.len(), 3);
        assert_eq!(row.comparisons.len(), 3);
    }

    #[test]
    fn rows_that_name_no_better_response_are_refused() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        let row = r#"{"prompt": "p", "img_path": "a.png", "responses": ["x", "y"]"#;
        let expected = "chosen_index: expected the place of the best of 2 responses";
        assert_eq!(refused(&format!("{row}}}")), expected);
        assert_eq!(refused(&format!(r#"{row}, "chosen_index": 2}}"#)), expected);
        assert!(refused(r#"{"prompt": "p", "img_path": "a.png"}"#).contains("chosen and rejected"));
    }
}
