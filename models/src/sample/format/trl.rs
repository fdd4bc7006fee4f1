//! TRL's preference rows: `prompt`, `chosen` and `rejected` as strings or lists of messages, `images` or `image`, and
//! maybe a `margin`.
//!
//! The sides may hold the prompt's messages too, with or without a separate `prompt`. Strings need one: the
//! common beginning of two strings need not end where the answers begin.

use super::super::fields::Fields;
use super::super::images;
use super::super::messages;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::{Message, Prompt};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "trl",
    marks: Marks::Sides(is_trl),
    keys: None,
    images: "images or image",
    overlaps: None,
    read,
};

/// Images as the `datasets` library names them, or messages.
fn is_trl(fields: &Fields) -> bool {
    fields.has("images")
        || fields.has("image")
        || fields.is_list("chosen")
        || fields.is_list("prompt")
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let prompt = prompt(fields)?;
    let (before, chosen) = side(fields, "chosen")?;
    let (also_before, rejected) = side(fields, "rejected")?;
    let images = match fields.has("images") {
        true => images::paths(fields, "images")?,
        false => images::paths(fields, "image")?,
    };
    let prompt = Prompt::Messages(the_same([prompt, before, also_before])?);
    prompt.check(images.len())?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen,
        rejected,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: fields.number_or("margin", 0.0)?,
    }))
}

/// The messages of a side before its answer, and the answer.
fn side(fields: &Fields, key: &str) -> Result<(Vec<Message>, String)> {
    match fields.is_list(key) {
        true => messages::answered(fields, key),
        false => Ok((Vec::new(), fields.string(key)?)),
    }
}

/// The messages under `prompt`; none without one.
fn prompt(fields: &Fields) -> Result<Vec<Message>> {
    match fields.get("prompt") {
        None => Ok(Vec::new()),
        Some(list) if fields.is_list("prompt") => messages::read(list).map_err(|e| e.at("prompt")),
        Some(_) => Ok(vec![Message::user(fields.string("prompt")?)]),
    }
}

/// The messages that all lists which have any agree on.
fn the_same(lists: [Vec<Message>; 3]) -> Result<Vec<Message>> {
    let mut lists = lists.into_iter().filter(|list| !list.is_empty());
    let first = lists.next().ok_or_else(|| {
        Error::invalid("prompt: expected a string, a list of messages, or chosen and rejected that begin with them")
    })?;
    match lists.all(|other| other == first) {
        true => Ok(first),
        false => Err(Error::invalid(
            "expected chosen and rejected to answer the same prompt",
        )),
    }
}
