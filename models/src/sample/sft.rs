//! Rows of next-token training.

use super::PreferenceRow;
use super::carried::{self, CarriedKeys, Layout};
use super::fields::Fields;
use crate::{Error, Result};

/// A row of next-token training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sft {
    /// The user's question, without the conversation template.
    pub prompt: String,
    /// The answer that the model learns.
    pub response: String,
    /// The images, in order.
    pub images: Vec<String>,
}

/// Reads a supervised row, `{"prompt", "img_path", "response"}`, or takes the chosen side of a pair of any format.
///
/// # Errors
/// Not JSON, a key missing or of the wrong type, both `response` and `chosen`, rated responses, or a key that by its
/// name holds an image, a video, turns or a margin, is not read, and is not declared `carried`.
pub fn sft(row: &str, carried: &CarriedKeys) -> Result<Sft> {
    let fields = Fields::parse(row)?;
    match (fields.has("response"), fields.has("chosen")) {
        (true, true) => Err(Error::invalid("expected response or chosen, got both")),
        (true, false) if !fields.is_list("response") => supervised(&fields, carried),
        _ => chosen_side(PreferenceRow::of(&fields, carried)?),
    }
}

fn supervised(fields: &Fields, carried: &CarriedKeys) -> Result<Sft> {
    let row = Sft {
        prompt: fields.string("prompt")?,
        response: fields.string("response")?,
        images: fields.images("img_path")?,
    };
    let layout = Layout {
        rows: "supervised rows".to_owned(),
        images: "img_path",
    };
    carried::check(fields, &layout, carried)?;
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
