//! Conversations as rows write them: lists of messages, with `role` and `content` or with `from` and `value`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Fields, missing, typed};
use crate::chat::{IMAGE_TAG, Message, Role};
use crate::{Error, Result};

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(alias = "from")]
    role: String,
    #[serde(borrow, alias = "value")]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// The messages of a list, in any order.
///
/// # Errors
/// Not a list of messages, an unknown author, or content that is neither text nor an image of the user.
pub(super) fn read(value: &RawValue) -> Result<Vec<Message>> {
    let messages: Vec<&RawValue> = typed(value, "a list of messages")?;
    let read = |(index, message): (usize, &&RawValue)| {
        message_of(message).map_err(|e| e.at(format!("[{index}]")))
    };
    messages.iter().enumerate().map(read).collect()
}

/// A single message.
///
/// # Errors
/// As [`read`].
pub(super) fn message_of(value: &RawValue) -> Result<Message> {
    let message: RawMessage = typed(value, "a message with role and content")?;
    let role = role(&message.role)?;
    let content = message.content.filter(|content| content.get() != "null");
    let content =
        content.ok_or_else(|| Error::invalid("expected text, got nothing").at("content"))?;
    Ok(Message::new(
        role,
        text(content, role).map_err(|e| e.at("content"))?,
    ))
}

/// The messages under `key` before the assistant's last one, and that one.
///
/// # Errors
/// As [`read`], or the last message is not the assistant's.
pub(super) fn answered(fields: &Fields, key: &str) -> Result<(Vec<Message>, String)> {
    let list = fields
        .get(key)
        .ok_or_else(|| missing(key, "a list of messages"))?;
    let (before, answer) = split(read(list).map_err(|e| e.at(key))?);
    let no_answer = || Error::invalid("expected a last message of role assistant").at(key);
    Ok((before, answer.ok_or_else(no_answer)?))
}

/// The messages before the assistant's last one, and that one, if it ends the list.
pub(super) fn split(mut messages: Vec<Message>) -> (Vec<Message>, Option<String>) {
    let answer = messages.pop_if(|message| message.role == Role::Assistant);
    (messages, answer.map(|message| message.content))
}

fn role(name: &str) -> Result<Role> {
    match name {
        "user" | "human" => Ok(Role::User),
        "assistant" | "gpt" => Ok(Role::Assistant),
        "system" | "developer" => Ok(Role::System),
        _ => Err(Error::invalid(format!(
            "expected a message of role system, user or assistant, got one of role {name}"
        ))),
    }
}

fn text(content: &RawValue, role: Role) -> Result<String> {
    if !content.get().starts_with('[') {
        return typed(content, "a string or a list of parts");
    }
    let parts: Vec<Part> = typed(content, "a list of parts with a type")?;
    parts.into_iter().map(|one| part(one, role)).collect()
}

fn part(part: Part, role: Role) -> Result<String> {
    match (part.r#type.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        ("image", _) if role == Role::User => Ok(format!("{IMAGE_TAG}\n")),
        ("image", _) => Err(Error::invalid(format!(
            "expected images in messages of role user only, got one in a message of role {}",
            role.name()
        ))),
        (kind, _) => Err(Error::invalid(format!(
            "expected parts of text or image, got {kind}"
        ))),
    }
}
