//! OpenRLHF's `/get_reward`, and that of its multimodal forks (lmm-r1, MM-EUREKA): samples as the policy's template wrote
//! them, with prompts, and labels that may name images.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use seeward_models::chat::IMAGE_TAG;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::row::{RowText, Sample, json, sample};
use super::{Context, Outcome, Row, Wire};
use crate::errors::Refusal;
use crate::policy_template::Turn;

/// Samples to score.
pub(crate) struct GetReward {
    on_error: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    query: Vec<String>,
    prompts: Vec<Box<RawValue>>,
    labels: Option<Vec<Box<RawValue>>>,
}

#[derive(Serialize)]
struct Reply {
    rewards: Vec<f32>,
    scores: Vec<f32>,
    extra_logs: ExtraLogs,
}

/// Numbers only: the trainer makes tensors of them.
#[derive(Serialize)]
struct ExtraLogs {
    reward_truncated: Vec<f32>,
    reward_error: Vec<f32>,
    reward_tokens: Vec<usize>,
}

impl Wire for GetReward {
    fn read(body: &[u8], context: &Context) -> Result<(Self, Vec<Row>), Refusal> {
        let body: Body = json(body)?;
        body.check()?;
        let labels = body.labels.unwrap_or_default();
        let pairs = body.query.iter().zip(&body.prompts).enumerate();
        let rows = pairs.map(|(index, (query, prompt))| {
            let labelled = Labelled {
                prompt,
                label: labels.get(index).map(|label| &**label),
                context,
            };
            labelled.row(Text::Sample(query))
        });
        let rows = rows.collect();
        let on_error = context.on_error;
        Ok((Self { on_error }, rows))
    }

    fn reply(self, outcomes: Vec<Outcome>, _: &str) -> Result<Response, Refusal> {
        let sample = |(index, outcome): (usize, Outcome)| {
            sample(outcome, self.on_error).map_err(|refusal| refusal.at(format!("query[{index}]")))
        };
        let samples = outcomes.into_iter().enumerate().map(sample);
        let samples: Vec<Sample> = samples.collect::<Result<_, _>>()?;
        let rewards: Vec<f32> = samples.iter().map(|sample| sample.reward).collect();
        let number = |is_so: bool| f32::from(u8::from(is_so));
        let reply = Reply {
            scores: rewards.clone(),
            rewards,
            extra_logs: ExtraLogs {
                reward_truncated: samples.iter().map(|s| number(s.is_cut)).collect(),
                reward_error: samples.iter().map(|s| number(s.is_error)).collect(),
                reward_tokens: samples.iter().map(|s| s.tokens).collect(),
            },
        };
        Ok(Json(reply).into_response())
    }
}

impl Body {
    fn check(&self) -> Result<(), Refusal> {
        let expected = self.query.len();
        let labels = self.labels.as_ref().map_or(expected, Vec::len);
        for (name, got) in [("prompts", self.prompts.len()), ("labels", labels)] {
            if got != expected {
                let problem = format!("{name}: expected one for each query, {expected}, got {got}");
                return Err(Refusal::unprocessable(problem).at(name));
            }
        }
        Ok(())
    }
}

/// A prompt with its label.
pub(super) struct Labelled<'a> {
    pub(super) prompt: &'a RawValue,
    pub(super) label: Option<&'a RawValue>,
    pub(super) context: &'a Context,
}

/// The text to score.
pub(super) enum Text<'a> {
    /// The response alone.
    Response(&'a str),
    /// Prompt and response as the policy's template wrote them.
    Sample(&'a str),
}

/// What a label says about the prompt's images, and the prompt that they belong to.
#[derive(Default, Deserialize)]
struct Label {
    #[serde(alias = "image", alias = "img_path")]
    images: Option<Box<RawValue>>,
    prompt: Option<Value>,
}

impl Labelled<'_> {
    /// The row of this prompt.
    pub(super) fn row(&self, text: Text) -> Row {
        let label = self.label()?;
        let (mut messages, response) = self.turns(text)?;
        if let (Some(prompt), Some(_)) = (&label.prompt, &label.images) {
            messages = match prompt {
                Value::String(text) => serde_json::json!([{"role": "user", "content": text}]),
                list => list.clone(),
            };
        }
        let row = RowText::default().with("messages", &messages)?;
        let row = row.with_some("images", label.images.as_ref())?;
        let row = row.with("responses", &[response])?.parse();
        row.map_err(|refusal| match label.images {
            None if refusal.message.contains(IMAGE_TAG) => Refusal::unprocessable(format!(
                "{}; where the images are in a column, set --data.label_key (slime: --label-key) to it, and start the \
                 service with --labels images if its values are paths",
                refusal.message
            )),
            _ => refusal,
        })
    }

    /// The images of the label, if it names any.
    fn label(&self) -> Result<Label, Refusal> {
        let Some(label) = self.label else {
            return Ok(Label::default());
        };
        let is_object = label.get().starts_with('{');
        if is_object {
            // An object about something else names no images.
            return serde_json::from_str(label.get()).map_err(Refusal::unprocessable);
        }
        let names_images = self.context.labels_are_images && label.get() != "null";
        Ok(Label {
            images: names_images.then(|| label.to_owned()),
            prompt: None,
        })
    }

    /// The messages before the response, and the response.
    fn turns(&self, text: Text) -> Result<(Value, String), Refusal> {
        let prompt = self.prompt.get();
        let prompt: Value = serde_json::from_str(prompt).map_err(Refusal::unprocessable)?;
        // lmm-r1 and MM-EUREKA send the list as text.
        let list = match &prompt {
            Value::String(text) if text.trim_start().starts_with("[{") => {
                serde_json::from_str(text).ok()
            }
            Value::Array(_) => Some(prompt.clone()),
            _ => None,
        };
        let template = self.context.policy_template;
        let text = match text {
            Text::Response(response) => response.to_owned(),
            Text::Sample(sample) => match (&list, &prompt) {
                (None, Value::String(prompt)) => template.response(sample, prompt)?,
                _ => template.last_turn(sample)?,
            },
        };
        let messages = match (list, &prompt) {
            (Some(list), _) => list,
            (None, Value::String(prompt)) => messages(template.turns(prompt)?),
            _ => {
                let problem = "prompt: expected text or a list of messages";
                return Err(Refusal::unprocessable(problem).at("prompt"));
            }
        };
        Ok((messages, text))
    }
}

fn messages(turns: Vec<Turn>) -> Value {
    let messages = turns.into_iter().map(|turn| {
        let role = Value::from(turn.role.name());
        let content = Value::from(turn.content);
        let message = BTreeMap::from([("role", role), ("content", content)]);
        message
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect()
    });
    Value::Array(messages.map(Value::Object).collect())
}
