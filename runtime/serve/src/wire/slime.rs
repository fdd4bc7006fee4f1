//! slime's remote reward: one response, and a bare number as the reply; `?key=NAME` puts it in an object.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::openrlhf::{Labelled, Text};
use super::row::{json, only, sample};
use super::{Context, Outcome, Row, Wire};
use crate::errors::Refusal;

/// One response.
pub(crate) struct RemoteReward {
    key: Option<String>,
    on_error: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    prompt: Box<RawValue>,
    response: String,
    label: Option<Box<RawValue>>,
    #[serde(default, rename = "metadata")]
    _metadata: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "extra_info")]
    _extra_info: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Number(f32),
    Object(std::collections::BTreeMap<String, f32>),
}

impl Wire for RemoteReward {
    fn read(body: &[u8], context: &Context) -> Result<(Self, Vec<Row>), Refusal> {
        let body: Body = json(body)?;
        let key = context
            .query
            .split('&')
            .find_map(|part| part.strip_prefix("key="));
        let labelled = Labelled {
            prompt: &body.prompt,
            label: body.label.as_deref(),
            context,
        };
        let row = labelled.row(Text::Response(&body.response));
        let wire = Self {
            key: key.map(str::to_owned),
            on_error: context.on_error,
        };
        Ok((wire, vec![row]))
    }

    fn reply(self, outcomes: Vec<Outcome>, _: &str) -> Result<Response, Refusal> {
        let reward = sample(only(outcomes), self.on_error)?.reward;
        let reply = match self.key {
            None => Reply::Number(reward),
            Some(key) => Reply::Object([(key, reward)].into()),
        };
        Ok(Json(reply).into_response())
    }
}
