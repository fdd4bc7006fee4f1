//! What a row asks, in rows of no other format: a prompt or messages, with images.

use super::context::Context;
use super::fields::Fields;
use super::image_ref::ImageRef;
use super::images;
use super::messages::Turns;
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
    pub(super) images: Vec<ImageRef>,
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
        let mut asked = Self {
            prompt: Prompt::default(),
            key,
            answer: None,
            images: Vec::new(),
            images_key: images::key(fields, images::KEYS)?,
        };
        match fields.get(key) {
            Some(list) if fields.is_list(key) => {
                let mut turns = Turns::read(list).map_err(|e| e.at(key))?;
                asked.answer = turns.take_answer();
                let (messages, images) = turns.with_images(fields, images::KEYS)?;
                asked.images = images;
                asked.prompt = Prompt::Messages(messages);
                asked
                    .prompt
                    .check(asked.images.len())
                    .map_err(|e| e.at(key))?;
            }
            _ => {
                asked.images = images::of(fields, images::KEYS)?;
                asked.prompt = fields.string(key)?.into();
            }
        }
        Ok(asked)
    }

    /// As [`Self::read`], with the row's system message and earlier turns before the prompt.
    ///
    /// # Errors
    /// Those of [`Self::read`] and [`Context`].
    pub(super) fn in_context(fields: &Fields) -> Result<Self> {
        let mut asked = Self::read(fields)?;
        Context::read(fields)?.extend(&mut asked.prompt, &[asked.images.len()])?;
        Ok(asked)
    }

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
    let keys = ["prompt", "messages", "conversations"];
    let mut keys = keys.into_iter().filter(|key| fields.has(key));
    match (keys.next(), keys.next()) {
        (first, None) => Ok(first.unwrap_or("prompt")),
        (first, Some(second)) => Err(Error::invalid(format!(
            "expected one prompt, got {} and {second}",
            first.unwrap_or(second)
        ))),
    }
}
