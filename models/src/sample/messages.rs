//! Conversations as rows write them: lists of messages, with `role` and `content` or with `from` and `value`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::addresses::Addresses;
use super::fields::{Fields, missing, typed};
use super::image_ref::ImageRef;
use super::images;
use crate::chat::{IMAGE_TAG, Message, Role};
use crate::{Error, Result};

/// Messages, and the images that are named within them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turns {
    pub(super) messages: Vec<Message>,
    images: Vec<ImageRef>,
    addresses: Addresses,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(alias = "from")]
    role: String,
    #[serde(borrow, alias = "value")]
    content: Option<&'a RawValue>,
}

/// A part of a message; an image part may name its image under one of four keys.
#[derive(Deserialize)]
struct Part<'a> {
    r#type: String,
    text: Option<String>,
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
}

impl Turns {
    /// A single message of the user.
    pub(super) fn question(text: String) -> Self {
        Self {
            messages: vec![Message::user(text)],
            ..Self::default()
        }
    }

    /// The messages of a list, in any order, without addresses of images.
    ///
    /// # Errors
    /// Those of [`Self::read_with`].
    pub(super) fn read(list: &RawValue) -> Result<Self> {
        Self::read_with(list, Addresses::Refused)
    }

    /// The messages of a list, in any order.
    ///
    /// # Errors
    /// Not a list of messages, an unknown author, or content that is neither text nor an image of the user.
    pub(super) fn read_with(list: &RawValue, addresses: Addresses) -> Result<Self> {
        let messages: Vec<&RawValue> = typed(list, "a list of messages")?;
        let mut turns = Self {
            addresses,
            ..Self::default()
        };
        for (index, message) in messages.into_iter().enumerate() {
            turns
                .push(message)
                .map_err(|e| e.at(format!("[{index}]")))?;
        }
        Ok(turns)
    }

    /// The messages under `key` before the assistant's last one, and that one.
    ///
    /// # Errors
    /// As [`Self::read`], or the last message is not the assistant's.
    pub(super) fn answered(fields: &Fields, key: &str) -> Result<(Self, String)> {
        let list = fields
            .get(key)
            .ok_or_else(|| missing(key, "a list of messages"))?;
        let mut turns = Self::read(list).map_err(|e| e.at(key))?;
        let answer = turns.take_answer();
        let no_answer = || Error::invalid("expected a last message of role assistant").at(key);
        Ok((turns, answer.ok_or_else(no_answer)?))
    }

    /// Removes the assistant's message at the end.
    pub(super) fn take_answer(&mut self) -> Option<String> {
        let answer = self
            .messages
            .pop_if(|message| message.role == Role::Assistant);
        answer.map(|message| message.content)
    }

    /// The messages and their images: those named within them, else those of the row under the one of `keys` that
    /// has some.
    ///
    /// # Errors
    /// Both, or as [`images::of`].
    pub(super) fn with_images(
        self,
        fields: &Fields,
        keys: &[&str],
    ) -> Result<(Vec<Message>, Vec<ImageRef>)> {
        match images::key(fields, keys)? {
            _ if self.images.is_empty() => Ok((self.messages, images::of(fields, keys)?)),
            None => Ok((self.messages, self.images)),
            Some(key) => {
                let problem = format!("expected images in the messages or under {key}, got both");
                Err(Error::invalid(problem))
            }
        }
    }

    fn push(&mut self, message: &RawValue) -> Result<()> {
        let message: RawMessage = typed(message, "a message with role and content")?;
        let role = role(&message.role)?;
        let content = message.content.filter(|content| content.get() != "null");
        let nothing = || Error::invalid("expected text, got nothing").at("content");
        let text = self.text(content.ok_or_else(nothing)?, role);
        self.messages
            .push(Message::new(role, text.map_err(|e| e.at("content"))?));
        Ok(())
    }

    fn text(&mut self, content: &RawValue, role: Role) -> Result<String> {
        if !content.get().starts_with('[') {
            return typed(content, "a string or a list of parts");
        }
        let parts: Vec<Part> = typed(content, "a list of parts with a type")?;
        parts
            .into_iter()
            .map(|part| self.part(part, role))
            .collect()
    }

    fn part(&mut self, part: Part, role: Role) -> Result<String> {
        match (part.r#type.as_str(), part.text) {
            ("text" | "input_text" | "output_text", Some(text)) => Ok(text),
            ("image" | "image_url" | "input_image", _) if role == Role::User => {
                let image = part.image.or(part.image_url).or(part.path).or(part.url);
                let image = image.map(|image| ImageRef::read(image, self.addresses));
                self.images.extend(image.transpose()?);
                Ok(format!("{IMAGE_TAG}\n"))
            }
            ("image" | "image_url" | "input_image", _) => Err(Error::invalid(format!(
                "expected images in messages of role user only, got one in a message of role {}",
                role.name()
            ))),
            (kind, _) => Err(Error::invalid(format!(
                "expected parts of text or image, got {kind}"
            ))),
        }
    }
}

/// The messages of a list that name no images.
///
/// # Errors
/// As [`Turns::read`], or images within the messages.
pub(super) fn texts(list: &RawValue) -> Result<Vec<Message>> {
    let turns = Turns::read(list)?;
    match turns.images.is_empty() {
        true => Ok(turns.messages),
        false => Err(Error::invalid("expected messages of text, got images")),
    }
}

/// The text of a message of the assistant, alone.
///
/// # Errors
/// As [`Turns::read`], or another author.
pub(super) fn answer(message: &RawValue) -> Result<String> {
    let mut turns = Turns::default();
    turns.push(message)?;
    let answer = turns.take_answer();
    answer.ok_or_else(|| Error::invalid("expected a message of role assistant"))
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
