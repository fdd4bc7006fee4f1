//! The formats of requests and replies. Each reads a body into rows to score, which are those of JSONL files, and writes the
//! rewards as its clients expect them.

mod openai;
mod openrlhf;
mod rewards;
mod row;
mod slime;
mod vllm;

use axum::response::Response;
use seeward_models::sample::ScoreRow;
use seeward_runtime::Scores;

pub(crate) use openai::ChatCompletion;
pub(crate) use openrlhf::GetReward;
pub(crate) use rewards::Rewards;
pub(crate) use slime::RemoteReward;
pub(crate) use vllm::Classify;

use crate::errors::Refusal;
use crate::policy_template::PolicyTemplate;

/// What a body is read with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// The template of prompts that a policy's trainer has templated.
    pub(crate) policy_template: PolicyTemplate,
    /// Whether labels that are text name images.
    pub(crate) labels_are_images: bool,
    /// The reward of a sample that cannot be scored, where trainers end with the first error.
    pub(crate) on_error: Option<f32>,
    /// The query of the address.
    pub(crate) query: String,
}

/// A row, or why it cannot be scored.
pub(crate) type Row = Result<ScoreRow, Refusal>;

/// A request's row with its scores, or why it has none.
pub(crate) type Outcome = Result<Scores, Refusal>;

/// A format.
pub(crate) trait Wire: Sized + Send + 'static {
    /// Reads a body.
    ///
    /// # Errors
    /// Not JSON, or not this format.
    fn read(body: &[u8], context: &Context) -> Result<(Self, Vec<Row>), Refusal>;

    /// Writes the outcomes of the rows, in order. `model` is the name of the served model.
    ///
    /// # Errors
    /// A row without scores, in a format without a place for its error.
    fn reply(self, outcomes: Vec<Outcome>, model: &str) -> Result<Response, Refusal>;
}

#[cfg(test)]
mod tests;
