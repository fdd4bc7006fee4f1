//! Conversations as lists of messages: one question of the user and one answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::fields::typed;
use super::images::TAG;
use crate::{Error, Result};

/// A message with `<image>` at the places of its images.
#[derive(Debug, PartialEq)]
struct Message {
    role: String,
    text: String,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    role: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// The content of a list of messages.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chat {
    /// The user's message.
    pub(super) question: Option<String>,
    /// The assistant's message after it.
    pub(super) answer: Option<String>,
}

impl Chat {
    /// # Errors
    /// Not a list of messages, several turns, a system message, or content that is neither text nor an image.
    pub(super) fn parse(value: &RawValue) -> Result<Self> {
        let mut chat = Self::default();
        let messages: Vec<RawMessage> = typed(value, "a list of messages with role and content")?;
        for (index, message) in messages.iter().enumerate() {
            let message = read(message).and_then(|message| chat.push(message));
            message.map_err(|e| e.at(format!("[{index}]")))?;
        }
        Ok(chat)
    }

    fn push(&mut self, message: Message) -> Result<()> {
        let place = match message.role.as_str() {
            "user" if self.answer.is_none() => &mut self.question,
            "assistant" => &mut self.answer,
            "user" => return Err(several_turns()),
            role => {
                return Err(Error::invalid(format!(
                    "expected a message of the user or the assistant, got one of role {role} (the model's template \
                     has its own system message)"
                )));
            }
        };
        match place.replace(message.text) {
            None => Ok(()),
            Some(_) => Err(several_turns()),
        }
    }
}

fn several_turns() -> Error {
    Error::invalid("expected one question and one answer, got a conversation of several turns")
}

fn read(message: &RawMessage) -> Result<Message> {
    let text = match message.content.get().starts_with('[') {
        false => typed(message.content, "a string or a list of parts")?,
        true => {
            let parts: Vec<Part> = typed(message.content, "a list of parts with a type")?;
            parts.into_iter().map(part).collect::<Result<String>>()?
        }
    };
    Ok(Message {
        role: message.role.clone(),
        text,
    })
}

fn part(part: Part) -> Result<String> {
    match (part.r#type.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        ("image", _) => Ok(format!("{TAG}\n")),
        (kind, _) => Err(Error::invalid(format!(
            "content: expected parts of text or image, got {kind}"
        ))),
    }
}
