//! LLaMA-Factory's `{"instruction", "input", "chosen", "rejected", "images"}`, its format of the name `alpaca`.

use super::super::fields::Fields;
use super::super::row_prompt;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::Result;

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "alpaca",
    marks: Marks::Sides(is_alpaca),
    keys: None,
    images: "images or image",
    overlaps: None,
    read,
};

/// In rows with another prompt `instruction` is plain data.
fn is_alpaca(fields: &Fields) -> bool {
    let others = ["prompt", "question", "messages", "conversations"];
    fields.has("instruction") && !others.iter().any(|key| fields.has(key))
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let (prompt, images) = row_prompt::instruction(fields, &["images", "image"])?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}
