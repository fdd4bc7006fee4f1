//! What a row asks, in rows of no other format: a prompt or messages, with images.

use super::fields::Fields;
use super::{images, messages};
use crate::chat::Prompt;
use crate::{Error, Result};

/// The question of a row.
pub(super) struct RowPrompt {
    /// What is asked.
    pub(super) prompt: Prompt,
    /// Its key.
    pub(super) key: &'static str,
    /// The assistant's message at the end of the conversation, if there is one.
    pub(super) answer: Option<String>,
    /// The images, in order.
    pub(super) images: Vec<String>,
    /// Their key, if there are any.
    pub(super) images_key: Option<&'static str>,
}

impl RowPrompt {
    /// Reads `prompt`, `messages` or `conversations`, and `img_path`, `images` or `image`.
    ///
    /// # Errors
    /// None of the former, two of either, a wrong type, or a conversation that no template has.
    pub(super) fn read(fields: &Fields) -> Result<Self> {
        let key = key(fields)?;
        let images_key = images::key(fields)?;
        let images = images_key.map(|key| images::paths(fields, key));
        let images = images.transpose()?.unwrap_or_default();
        let (prompt, answer) = match fields.get(key) {
            Some(list) if fields.is_list(key) => {
                let messages = messages::read(list).map_err(|e| e.at(key))?;
                let (before, answer) = messages::split(messages);
                let prompt = Prompt::Messages(before);
                prompt.check(images.len()).map_err(|e| e.at(key))?;
                (prompt, answer)
            }
            _ => (fields.string(key)?.into(), None),
        };
        Ok(Self {
            prompt,
            key,
            answer,
            images,
            images_key,
        })
    }
}

impl RowPrompt {
    /// Checks that responses under `key` follow a user's message.
    ///
    /// # Errors
    /// The conversation has its answer already.
    pub(super) fn is_open(&self, key: &str) -> Result<()> {
        match self.answer {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!(
                "expected {key}, or a last message of role assistant, got both"
            ))),
        }
    }
}

/// The key of the prompt; `prompt` in a row without any.
fn key(fields: &Fields) -> Result<&'static str> {
    let mut keys = ["prompt", "messages", "conversations"]
        .into_iter()
        .filter(|key| fields.has(key));
    match (keys.next(), keys.next()) {
        (first, None) => Ok(first.unwrap_or("prompt")),
        (first, Some(second)) => Err(Error::invalid(format!(
            "expected one prompt, got {} and {second}",
            first.unwrap_or(second)
        ))),
    }
}
