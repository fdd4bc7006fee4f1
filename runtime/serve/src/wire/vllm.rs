//! vLLM's `/classify` with messages: a classifier of one class, whose logit is the reward.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::row::{RowText, check_keys, id, json, now, only, reward};
use super::{Context, Outcome, Row, Wire};
use crate::errors::Refusal;

/// Keys that a reward does not depend on.
const WITHOUT_EFFECT: [&str; 4] = ["priority", "request_id", "user", "cache_salt"];

/// A conversation to classify.
pub(crate) struct Classify {
    model: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Box<RawValue>>,
    use_activation: Option<bool>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct Reply {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    data: [Class; 1],
    usage: Usage,
}

#[derive(Serialize)]
struct Class {
    index: usize,
    label: &'static str,
    probs: [f32; 1],
    num_classes: usize,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Wire for Classify {
    fn read(body: &[u8], _: &Context) -> Result<(Self, Vec<Row>), Refusal> {
        let body: Body = json(body)?;
        if body.use_activation != Some(false) {
            let problem = "use_activation: expected false: the reward has no activation";
            return Err(Refusal::unprocessable(problem).at("use_activation"));
        }
        let Some(messages) = &body.messages else {
            let problem = "messages: expected a conversation that ends with the assistant's message; input is not read";
            return Err(Refusal::unprocessable(problem).at("messages"));
        };
        check_keys(&body.rest, &WITHOUT_EFFECT)?;
        let row = RowText::default().with("messages", messages)?.parse();
        let row = row.map_err(|refusal| refusal.at("messages"));
        Ok((Self { model: body.model }, vec![row]))
    }

    fn reply(self, outcomes: Vec<Outcome>, model: &str) -> Result<Response, Refusal> {
        let scores = only(outcomes)?;
        let reply = Reply {
            id: id("classify"),
            object: "list",
            created: now(),
            model: self.model.unwrap_or_else(|| model.to_owned()),
            data: [Class {
                index: 0,
                label: "LABEL_0",
                probs: [reward(&scores)?],
                num_classes: 1,
            }],
            usage: Usage {
                prompt_tokens: scores.tokens,
                total_tokens: scores.tokens,
            },
        };
        Ok(Json(reply).into_response())
    }
}
