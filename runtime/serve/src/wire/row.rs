//! Rows made of the parts of a body, and what all formats need to read and write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use seeward_models::sample::ScoreRow;
use seeward_runtime::Scores;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Outcome, Row};
use crate::errors::Refusal;

/// Reads a body.
///
/// # Errors
/// 400 for what is not JSON, 422 for other JSON than the format's.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    match serde_json::from_slice(body) {
        Ok(value) if is_object => Ok(value),
        Err(error) if !error.is_data() => Err(Refusal::bad_request(format!(
            "the body is not JSON: {error}"
        ))),
        Err(error) if is_object => Err(Refusal::unprocessable(error)),
        _ => Err(Refusal::unprocessable("the body: expected an object")),
    }
}

/// The text of an object with these keys and JSON values.
#[derive(Default)]
pub(super) struct RowText(String);

impl RowText {
    pub(super) fn with(
        mut self,
        key: &str,
        value: &impl serde::Serialize,
    ) -> Result<Self, Refusal> {
        let value = serde_json::to_string(value).map_err(Refusal::internal)?;
        self.0 += if self.0.is_empty() { "{" } else { "," };
        self.0 += &format!("{}:{value}", Value::from(key));
        Ok(self)
    }

    /// The same without absent values.
    pub(super) fn with_some(
        self,
        key: &str,
        value: Option<&impl serde::Serialize>,
    ) -> Result<Self, Refusal> {
        match value {
            Some(value) => self.with(key, value),
            None => Ok(self),
        }
    }

    /// Reads the row.
    pub(super) fn parse(self) -> Row {
        parse(&(self.0 + "}"))
    }
}

/// Reads a row of text.
pub(super) fn parse(text: &str) -> Row {
    Ok(ScoreRow::parse_with_addresses(text)?)
}

/// The scores of the only row of a request.
///
/// # Errors
/// The row's.
pub(super) fn only(outcomes: Vec<Outcome>) -> Outcome {
    let missing = || Refusal::internal("the row has no outcome");
    outcomes.into_iter().next().ok_or_else(missing)?
}

/// The first reward.
///
/// # Errors
/// None.
pub(super) fn reward(scores: &Scores) -> Result<f32, Refusal> {
    let first = scores.rewards.first().copied();
    first.ok_or_else(|| Refusal::internal("the row has no reward"))
}

/// The scores of a sample, or those that stand for a sample that cannot be scored.
///
/// # Errors
/// The row's, if nothing stands for it or another request might succeed.
pub(super) fn sample(outcome: Outcome, on_error: Option<f32>) -> Result<Sample, Refusal> {
    match (outcome, on_error) {
        (Ok(scores), _) => Ok(Sample {
            reward: reward(&scores)?,
            is_cut: scores.truncated.contains(&true),
            tokens: scores.tokens,
            is_error: false,
        }),
        (Err(refusal), Some(reward)) if refusal.status == StatusCode::UNPROCESSABLE_ENTITY => {
            tracing::warn!(
                error = refusal.message,
                reward,
                "a sample got the reward of errors"
            );
            Ok(Sample {
                reward,
                is_cut: false,
                tokens: 0,
                is_error: true,
            })
        }
        (Err(refusal), _) => Err(refusal),
    }
}

/// A sample with its reward.
pub(super) struct Sample {
    pub(super) reward: f32,
    pub(super) is_cut: bool,
    pub(super) tokens: usize,
    /// Whether the reward is that of errors.
    pub(super) is_error: bool,
}

/// Refuses keys that change what is asked in a way that this service does not know.
///
/// # Errors
/// A key that is not in `without_effect`.
pub(super) fn check_keys(
    rest: &BTreeMap<String, Value>,
    without_effect: &[&str],
) -> Result<(), Refusal> {
    let unknown = rest
        .iter()
        .find(|(key, value)| !without_effect.contains(&key.as_str()) && !value.is_null());
    match unknown {
        None => Ok(()),
        Some((key, _)) => {
            Err(Refusal::unprocessable(format!("{key}: not supported by this service")).at(key))
        }
    }
}

/// A name for a reply.
pub(super) fn id(kind: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{kind}-{:x}-{:x}",
        now(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
