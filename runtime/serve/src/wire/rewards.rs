//! The native format: requests as rows, `{"prompt" | "messages", "images", "responses"}`, alone or as a list under
//! `requests`. Errors are those of single requests.

use axum::Json;
use axum::response::{IntoResponse, Response};
use seeward_runtime::Scores;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::row::{json, parse};
use super::{Context, Outcome, Row, Wire};
use crate::errors::{Details, Refusal};

/// Keys of a row that its score does not depend on, or that the row's reader knows.
const KNOWN: [&str; 4] = ["id", "system", "history", "model"];

/// Keys of images, which a row without any may have too.
const IMAGES: [&str; 3] = ["images", "image", "img_path"];
const NOTHING: [&str; 3] = ["null", "[]", "\"\""];

/// Requests for rewards.
pub(crate) struct Rewards;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    requests: Vec<Box<RawValue>>,
    #[serde(default, rename = "model")]
    _model: Option<String>,
}

/// Whether a body is a list of requests.
#[derive(Deserialize)]
struct Probe {
    requests: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize)]
struct Reply<'a> {
    model: &'a str,
    results: Vec<RowReply>,
    usage: Usage,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowReply {
    Scores {
        rewards: Vec<f32>,
        truncated: Vec<bool>,
        tokens: usize,
        tiles: usize,
    },
    Error {
        error: Details,
    },
}

/// Sums over the results.
#[derive(Default, Serialize)]
struct Usage {
    responses: usize,
    tokens: usize,
    tiles: usize,
}

impl Wire for Rewards {
    fn read(body: &[u8], _: &Context) -> Result<(Self, Vec<Row>), Refusal> {
        let is_batch = json::<Probe>(body)?.requests.is_some();
        let rows = match is_batch {
            true => json::<Batch>(body)?
                .requests
                .iter()
                .map(|r| row(r.get()))
                .collect(),
            false => {
                let text = std::str::from_utf8(body).map_err(Refusal::bad_request)?;
                vec![row(text)]
            }
        };
        Ok((Self, rows))
    }

    fn reply(self, outcomes: Vec<Outcome>, model: &str) -> Result<Response, Refusal> {
        let mut usage = Usage::default();
        outcomes
            .iter()
            .flatten()
            .for_each(|scores| usage.add(scores));
        let results = outcomes.into_iter().map(RowReply::from).collect();
        let reply = Reply {
            model,
            results,
            usage,
        };
        Ok(Json(reply).into_response())
    }
}

/// A row without keys that only a file would carry through.
fn row(text: &str) -> Row {
    let row = parse(text)?;
    let unknown = row.carried().find(|(key, value)| !is_known(key, value));
    match unknown {
        None => Ok(row),
        Some((key, _)) => {
            let problem = format!("{key}: expected prompt or messages, images and responses");
            Err(Refusal::unprocessable(problem).at(key))
        }
    }
}

fn is_known(key: &str, value: &str) -> bool {
    KNOWN.contains(&key) || IMAGES.contains(&key) && NOTHING.contains(&value)
}

impl Usage {
    fn add(&mut self, scores: &Scores) {
        self.responses += scores.rewards.len();
        self.tokens += scores.tokens;
        self.tiles += scores.tiles;
    }
}

impl From<Outcome> for RowReply {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(scores) => Self::Scores {
                rewards: scores.rewards,
                truncated: scores.truncated,
                tokens: scores.tokens,
                tiles: scores.tiles,
            },
            Err(refusal) => Self::Error {
                error: refusal.details(),
            },
        }
    }
}
