//! What a row asks, in rows of no other format: a prompt or messages, with images.

use super::context::{self, Context};
use super::fields::Fields;
use super::image_ref::ImageRef;
use super::images;
use super::messages::Turns;
use crate::chat::{Message, Prompt};
use crate::{Error, Result};

const PROMPTS: [&str; 3] = ["prompt", "messages", "conversations"];
const INSTRUCTION: &str = "instruction";
const INPUT: &str = "input";

/// The keys of a scoring row by which the model sees it, but for its responses. Each may be absent.
pub fn seen_keys() -> impl Iterator<Item = &'static str> {
    let prompts = PROMPTS.into_iter().chain([INSTRUCTION, INPUT]);
    prompts
        .chain(context::keys())
        .chain(images::KEYS.iter().copied())
}

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
    /// Reads `prompt`, `messages`, `conversations` or `instruction`, and `img_path`, `images` or `image`.
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
                let turns = Turns::read_with(list, fields.addresses());
                let mut turns = turns.map_err(|e| e.at(key))?;
                asked.answer = turns.take_answer();
                let (messages, images) = turns.with_images(fields, images::KEYS)?;
                asked.images = images;
                asked.prompt = Prompt::Messages(messages);
                asked
                    .prompt
                    .check(asked.images.len())
                    .map_err(|e| e.at(key))?;
            }
            _ if key == INSTRUCTION => {
                (asked.prompt, asked.images) = instruction(fields, images::KEYS)?;
                let has_output = fields.has("output");
                asked.answer = has_output.then(|| fields.string("output")).transpose()?;
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

/// LLaMA-Factory's question, with its images under one of `keys`: `instruction`, then `input` after a line break.
///
/// # Errors
/// No instruction, a wrong type, or a conversation that no template has.
pub(super) fn instruction(fields: &Fields, keys: &[&str]) -> Result<(Prompt, Vec<ImageRef>)> {
    let mut text = fields.string(INSTRUCTION)?;
    let input = fields.has(INPUT).then(|| fields.string(INPUT));
    if let Some(input) = input.transpose()?.filter(|input| !input.is_empty()) {
        text = format!("{text}\n{input}");
    }
    let images = images::of(fields, keys)?;
    let prompt = Prompt::Messages(vec![Message::user(text)]);
    prompt.check(images.len()).map_err(|e| e.at(INSTRUCTION))?;
    Ok((prompt, images))
}

/// The key of the prompt; `prompt` in a row without any. Next to another prompt `instruction` is plain data.
fn key(fields: &Fields) -> Result<&'static str> {
    let mut keys = PROMPTS.into_iter().filter(|key| fields.has(key));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, None) if fields.has(INSTRUCTION) => Ok(INSTRUCTION),
        (None, None) => Ok("prompt"),
        (first, Some(second)) => Err(Error::invalid(format!(
            "expected one prompt, got {} and {second}",
            first.unwrap_or(second)
        ))),
    }
}
