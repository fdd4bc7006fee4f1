//! TRL's preference rows: `prompt`, `chosen` and `rejected` as strings or lists of messages, `images` or `image`.
//!
//! The sides may hold the prompt's messages too, with or without a separate `prompt`. Strings need one: the
//! common beginning of two strings need not end where the answers begin.

use super::super::fields::Fields;
use super::super::messages::Turns;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::Prompt;
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "trl",
    marks: Marks::Sides(is_trl),
    keys: None,
    images: "images or image",
    overlaps: None,
    read,
};

/// Images as the `datasets` library names them (none are `null` there), or messages.
fn is_trl(fields: &Fields) -> bool {
    let images = ["images", "image"].iter();
    let names_images = images.clone().any(|key| fields.names(key)) && !fields.names("img_path");
    let has_images = images.clone().any(|key| fields.has(key));
    names_images || has_images || fields.is_list("chosen") || fields.is_list("prompt")
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let prompt = prompt(fields)?;
    let (before, chosen) = side(fields, "chosen")?;
    let (also_before, rejected) = side(fields, "rejected")?;
    let turns = the_same([prompt, before, also_before])?;
    let (messages, images) = turns.with_images(fields, &["images", "image"])?;
    let prompt = Prompt::Messages(messages);
    prompt.check(images.len())?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen,
        rejected,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}

/// The messages of a side before its answer, and the answer.
fn side(fields: &Fields, key: &str) -> Result<(Turns, String)> {
    match fields.is_list(key) {
        true => Turns::answered(fields, key),
        false => Ok((Turns::default(), fields.string(key)?)),
    }
}

/// The messages under `prompt`; none without one.
fn prompt(fields: &Fields) -> Result<Turns> {
    match fields.get("prompt") {
        None => Ok(Turns::default()),
        Some(list) if fields.is_list("prompt") => Turns::read(list).map_err(|e| e.at("prompt")),
        Some(_) => fields.string("prompt").map(Turns::question),
    }
}

/// The messages that all lists which have any agree on.
fn the_same(lists: [Turns; 3]) -> Result<Turns> {
    let mut lists = lists.into_iter().filter(|list| !list.messages.is_empty());
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
