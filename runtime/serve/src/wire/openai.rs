//! OpenAI's chat completions: the assistant's message at the end is scored, and its reward is the content of the reply. Also
//! as ms-swift's client writes them, with `images` next to the messages.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::row::{RowText, check_keys, id, json, now, only, reward};
use super::{Context, Outcome, Row, Wire};
use crate::errors::Refusal;

/// Keys of sampling, which a reward does not depend on.
const WITHOUT_EFFECT: [&str; 22] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "min_p",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
];

/// A chat whose last message is scored.
pub(crate) struct ChatCompletion {
    model: Option<String>,
}

#[derive(Deserialize)]
struct Chat {
    model: Option<String>,
    messages: Box<RawValue>,
    images: Option<Box<RawValue>>,
    stream: Option<bool>,
    n: Option<u32>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct Reply {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: [Choice; 1],
    usage: Usage,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: Message,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Wire for ChatCompletion {
    fn read(body: &[u8], _: &Context) -> Result<(Self, Vec<Row>), Refusal> {
        let chat: Chat = json(body)?;
        chat.check()?;
        let row = RowText::default().with("messages", &chat.messages)?;
        let row = row.with_some("images", chat.images.as_ref())?.parse();
        let row = row.map_err(|refusal| refusal.at("messages"));
        Ok((Self { model: chat.model }, vec![row]))
    }

    fn reply(self, outcomes: Vec<Outcome>, model: &str) -> Result<Response, Refusal> {
        let scores = only(outcomes)?;
        let is_cut = scores.truncated.contains(&true);
        let content = reward(&scores)?.to_string();
        let reply = Reply {
            id: id("chatcmpl"),
            object: "chat.completion",
            created: now(),
            model: self.model.unwrap_or_else(|| model.to_owned()),
            choices: [Choice {
                index: 0,
                message: Message {
                    role: "assistant",
                    content,
                },
                finish_reason: if is_cut { "length" } else { "stop" },
            }],
            usage: Usage {
                prompt_tokens: scores.tokens,
                completion_tokens: 0,
                total_tokens: scores.tokens,
            },
        };
        Ok(Json(reply).into_response())
    }
}

impl Chat {
    fn check(&self) -> Result<(), Refusal> {
        let refused = |key: &str, problem: &str| {
            Err(Refusal::unprocessable(format!("{key}: {problem}")).at(key))
        };
        if self.stream == Some(true) {
            return refused("stream", "expected false: a reward is one value");
        }
        if self.n.is_some_and(|n| n != 1) {
            return refused("n", "expected 1: a response has one reward");
        }
        check_keys(&self.rest, &WITHOUT_EFFECT)
    }
}
