//! ms-swift's `{"messages", "rejected_response", "images"}`: the last message is the chosen answer. With
//! `rejected_images` the rejected answer has separate images.

use super::super::fields::{Fields, missing};
use super::super::{Pair, PreferenceRow};
use super::chat::Chat;
use super::images;
use super::spec::{FormatSpec, Marks};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "ms-swift",
    marks: Marks::Keys(&["messages", "rejected_response"]),
    keys: Some("messages and rejected_response"),
    images: "images and rejected_images",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    if fields.has("rejected_messages") {
        let problem = "not supported: give the last of them as rejected_response";
        return Err(Error::invalid(problem).at("rejected_messages"));
    }
    let messages = fields.get("messages");
    let chat = messages.ok_or_else(|| missing("messages", "a list of messages"))?;
    let chat = Chat::parse(chat).map_err(|e| e.at("messages"))?;
    let (Some(question), Some(chosen)) = (chat.question, chat.answer) else {
        let problem = "expected a message of the user and one of the assistant";
        return Err(Error::invalid(problem).at("messages"));
    };
    let chosen_images = images::paths(fields, "images")?;
    let rejected_images = match fields.has("rejected_images") {
        true => images::paths(fields, "rejected_images")?,
        false => chosen_images.clone(),
    };
    Ok(PreferenceRow::from(Pair {
        prompt: images::one_comes_first(&question, chosen_images.len())?,
        chosen,
        rejected: fields.string("rejected_response")?,
        chosen_images,
        rejected_images,
        margin: 0.0,
    }))
}
