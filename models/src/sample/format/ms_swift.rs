//! ms-swift's `{"messages", "rejected_response", "images"}`: the last message is the chosen answer. With
//! `rejected_images` the rejected answer has separate images; `rejected_messages` may repeat the conversation with the
//! rejected answer at its end.

use super::super::fields::Fields;
use super::super::images;
use super::super::messages;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::{Message, Prompt};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "ms-swift",
    marks: Marks::Keys(&["rejected_response", "rejected_messages"]),
    keys: Some("messages and rejected_response"),
    images: "images and rejected_images",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let (before, chosen) = messages::answered(fields, "messages")?;
    let rejected = rejected(fields, &before)?;
    let chosen_images = images::paths(fields, "images")?;
    let rejected_images = match fields.has("rejected_images") {
        true => images::paths(fields, "rejected_images")?,
        false => chosen_images.clone(),
    };
    let prompt = Prompt::Messages(before);
    prompt
        .check(chosen_images.len())
        .map_err(|e| e.at("messages"))?;
    prompt
        .check(rejected_images.len())
        .map_err(|e| e.at("rejected_images"))?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen,
        rejected,
        chosen_images,
        rejected_images,
        margin: 0.0,
    }))
}

fn rejected(fields: &Fields, before: &[Message]) -> Result<String> {
    if !fields.has("rejected_messages") {
        return fields.string("rejected_response");
    }
    let (also_before, rejected) = messages::answered(fields, "rejected_messages")?;
    match also_before == before {
        true => Ok(rejected),
        false => {
            let problem = "expected the messages under messages, but for the last one";
            Err(Error::invalid(problem).at("rejected_messages"))
        }
    }
}
