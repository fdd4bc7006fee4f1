//! OpenAI's `{"input": {"messages"}, "preferred_output", "non_preferred_output"}`: an output is a list of one message.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::fields::{Fields, missing, typed};
use super::super::keys::is_blank;
use super::super::messages::{self, Turns};
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::Prompt;
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "openai",
    marks: Marks::Keys(&["preferred_output", "non_preferred_output"]),
    keys: Some("preferred_output and non_preferred_output"),
    images: "the messages, images or image",
    overlaps: None,
    read,
};

/// What was asked; its other keys are settings of OpenAI's service.
#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let turns = asked(fields).map_err(|e| e.at("input"))?;
    let (messages, images) = turns.with_images(fields, &["images", "image"])?;
    let prompt = Prompt::Messages(messages);
    prompt.check(images.len()).map_err(|e| e.at("input"))?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen: output(fields, "preferred_output")?,
        rejected: output(fields, "non_preferred_output")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}

fn asked(fields: &Fields) -> Result<Turns> {
    const EXPECTED: &str = "an object with messages";
    let input = fields.get("input");
    let input = input.ok_or_else(|| Error::invalid(format!("expected {EXPECTED}, got nothing")))?;
    let input: Input = typed(input, EXPECTED)?;
    if input.tools.is_some_and(|tools| !is_blank(tools.get())) {
        return Err(Error::invalid("calls of tools are not supported").at("tools"));
    }
    Turns::read(input.messages).map_err(|e| e.at("messages"))
}

fn output(fields: &Fields, key: &str) -> Result<String> {
    const EXPECTED: &str = "a list of one message of role assistant";
    let list = fields.get(key).ok_or_else(|| missing(key, EXPECTED))?;
    let messages: Vec<&RawValue> = typed(list, EXPECTED).map_err(|e| e.at(key))?;
    let answer = match messages[..] {
        [message] => messages::answer(message),
        _ => Err(Error::invalid(format!(
            "expected {EXPECTED}, got {}",
            messages.len()
        ))),
    };
    answer.map_err(|e| e.at(key))
}
