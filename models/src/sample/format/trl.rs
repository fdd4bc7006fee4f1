//! TRL's preference rows: `prompt`, `chosen` and `rejected` as strings or lists of messages, `images` or `image`, and
//! maybe a `margin`.
//!
//! The sides may hold the prompt's messages too, with or without a separate `prompt`. Strings need one: the
//! common beginning of two strings need not end where the answers begin.

use super::super::fields::Fields;
use super::super::{Pair, PreferenceRow};
use super::chat::Chat;
use super::images;
use super::spec::{FormatSpec, Marks};
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
    let (chosen, rejected) = (side(fields, "chosen")?, side(fields, "rejected")?);
    let questions = [question(fields)?, chosen.question, rejected.question];
    let images = match fields.has("images") {
        true => images::paths(fields, "images")?,
        false => images::paths(fields, "image")?,
    };
    let prompt = the_same(questions.into_iter().flatten())?;
    Ok(PreferenceRow::from(Pair {
        prompt: images::one_comes_first(&prompt, images.len())?,
        chosen: answer(chosen.answer, "chosen")?,
        rejected: answer(rejected.answer, "rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: fields.number_or("margin", 0.0)?,
    }))
}

fn side(fields: &Fields, key: &str) -> Result<Chat> {
    match fields.get(key).filter(|_| fields.is_list(key)) {
        Some(messages) => Chat::parse(messages).map_err(|e| e.at(key)),
        None => Ok(Chat {
            question: None,
            answer: Some(fields.string(key)?),
        }),
    }
}

fn question(fields: &Fields) -> Result<Option<String>> {
    match fields.get("prompt") {
        None => Ok(None),
        Some(messages) if fields.is_list("prompt") => {
            let chat = Chat::parse(messages).map_err(|e| e.at("prompt"))?;
            match chat.answer {
                None => Ok(chat.question),
                Some(_) => Err(Error::invalid("expected no answer").at("prompt")),
            }
        }
        Some(_) => fields.string("prompt").map(Some),
    }
}

fn the_same(mut questions: impl Iterator<Item = String>) -> Result<String> {
    let question = questions.next().ok_or_else(|| {
        Error::invalid("prompt: expected a string, a list of messages, or chosen and rejected that begin with them")
    })?;
    match questions.all(|other| other == question) {
        true => Ok(question),
        false => Err(Error::invalid(
            "expected chosen and rejected to answer the same prompt",
        )),
    }
}

fn answer(answer: Option<String>, key: &str) -> Result<String> {
    answer.ok_or_else(|| Error::invalid("expected a message of the assistant").at(key))
}
