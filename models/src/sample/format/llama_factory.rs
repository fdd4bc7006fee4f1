//! LLaMA-Factory's `{"conversations", "chosen", "rejected", "images"}`: the sides are single messages. InternVL's
//! `conversations` with two answers are read as well, and the same with `messages`.

use super::super::fields::Fields;
use super::super::messages::{self, Turns};
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::Result;
use crate::chat::Prompt;

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "llama-factory",
    marks: Marks::Sides(|fields| fields.has("conversations") || fields.has("messages")),
    keys: None,
    images: "images or image",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let key = match fields.has("conversations") {
        true => "conversations",
        false => "messages",
    };
    let turns = fields
        .get(key)
        .map(|list| Turns::read(list).map_err(|e| e.at(key)));
    let turns = turns.transpose()?.unwrap_or_default();
    let (messages, images) = turns.with_images(fields, &["images", "image"])?;
    let prompt = Prompt::Messages(messages);
    prompt.check(images.len()).map_err(|e| e.at(key))?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen: side(fields, "chosen")?,
        rejected: side(fields, "rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}

/// A side: a message of the assistant, or its text.
fn side(fields: &Fields, key: &str) -> Result<String> {
    match fields.get(key).filter(|value| value.get().starts_with('{')) {
        Some(message) => messages::answer(message).map_err(|e| e.at(key)),
        None => fields.string(key),
    }
}
