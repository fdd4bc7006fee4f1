//! ms-swift's `{"messages", "rejected_response", "images"}`: the last message is the chosen answer. With
//! `rejected_images` the rejected answer has separate images; `rejected_messages` may repeat the conversation with the
//! rejected answer at its end.

use super::super::fields::Fields;
use super::super::image_ref::ImageRef;
use super::super::images;
use super::super::messages::Turns;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::{Message, Prompt};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "ms-swift",
    marks: Marks::Keys(&["rejected_response", "rejected_messages"]),
    keys: Some("messages and rejected_response"),
    images: "images or image, and rejected_images",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let (turns, chosen) = Turns::answered(fields, "messages")?;
    let (messages, chosen_images) = turns.with_images(fields, &["images", "image"])?;
    let (rejected, named) = rejected(fields, &messages, &chosen_images)?;
    let rejected_images = match fields.has("rejected_images") {
        true => images::under(fields, "rejected_images")?,
        false => named,
    };
    let prompt = Prompt::Messages(messages);
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

/// The rejected answer and its images: those of its messages, else the chosen answer's.
fn rejected(
    fields: &Fields,
    messages: &[Message],
    images: &[ImageRef],
) -> Result<(String, Vec<ImageRef>)> {
    if !fields.has("rejected_messages") {
        return Ok((fields.string("rejected_response")?, images.to_owned()));
    }
    let (turns, rejected) = Turns::answered(fields, "rejected_messages")?;
    let (also_before, named) = turns.with_images(fields, &[])?;
    let images = if named.is_empty() {
        images.to_owned()
    } else {
        named
    };
    match also_before == messages {
        true => Ok((rejected, images)),
        false => {
            let problem = "expected the messages under messages, but for the last one";
            Err(Error::invalid(problem).at("rejected_messages"))
        }
    }
}
