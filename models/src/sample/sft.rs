//! Rows of next-token training.

use super::PreferenceRow;
use super::carried::CarriedKeys;
use super::fields::Fields;
use super::image_ref::ImageRef;
use super::keys::{self, Layout};
use super::row_prompt::RowPrompt;
use crate::chat::Prompt;
use crate::{Error, Result};

/// A row of next-token training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sft {
    /// What the response answers.
    pub prompt: Prompt,
    /// The answer that the model learns.
    pub response: String,
    /// The images, in order.
    pub images: Vec<ImageRef>,
}

/// Reads a supervised row: `{"prompt", "img_path", "response"}`, a conversation that ends with the response, or
/// `{"instruction", "output"}`. Or takes the chosen side of a pair of any format.
///
/// # Errors
/// Not JSON, a key missing or of the wrong type, both `response` and `chosen`, rated responses, or a key that by its
/// name holds an image, a video, turns or a margin, is not read, and is not declared `carried`.
pub fn sft(row: &str, carried: &CarriedKeys) -> Result<Sft> {
    let fields = Fields::parse(row, carried)?;
    match (fields.has("response"), fields.has("chosen")) {
        (true, true) => Err(Error::invalid("expected response or chosen, got both")),
        (true, false) if !fields.is_list("response") => supervised(&fields),
        (false, false) if is_conversation(&fields) => supervised(&fields),
        _ => chosen_side(PreferenceRow::of(&fields)?),
    }
}

/// Whether the row is a conversation that ends with the answer to learn.
fn is_conversation(fields: &Fields) -> bool {
    let has = |key: &&str| fields.has(key);
    ["messages", "conversations", "instruction"].iter().any(has)
        && !["rejected_response", "rejected_messages", "preferred_output"]
            .iter()
            .any(has)
}

fn supervised(fields: &Fields) -> Result<Sft> {
    let asked = RowPrompt::in_context(fields)?;
    let response = match &asked.answer {
        Some(answer) if !fields.has("response") => answer.clone(),
        _ => {
            asked.is_open("response")?;
            fields.string("response")?
        }
    };
    let row = Sft {
        prompt: asked.prompt,
        response,
        images: asked.images,
    };
    let layout = Layout {
        rows: "supervised rows".to_owned(),
        images: "img_path, images or image",
    };
    keys::check(fields, &layout)?;
    Ok(row)
}

fn chosen_side(row: PreferenceRow) -> Result<Sft> {
    if row.candidates.is_some() {
        let problem = "expected response, or one chosen, got rated responses";
        return Err(Error::invalid(problem));
    }
    let pair = row.pairs.into_iter().next();
    let pair = pair.ok_or_else(|| Error::invalid("expected response or chosen"))?;
    Ok(Sft {
        prompt: pair.prompt,
        response: pair.chosen,
        images: pair.chosen_images,
    })
}
