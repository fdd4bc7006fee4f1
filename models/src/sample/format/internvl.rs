//! InternVL's `{"image", "question", "chosen", "rejected"}`; `image` is a path or a list of paths.

use super::super::fields::Fields;
use super::super::images;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::Result;
use crate::chat::{Message, Prompt};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "internvl",
    marks: Marks::Sides(|fields| fields.has("question")),
    keys: None,
    images: "image or images",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let images = images::of(fields, &["image", "images"])?;
    let prompt = Prompt::Messages(vec![Message::user(fields.string("question")?)]);
    prompt.check(images.len()).map_err(|e| e.at("question"))?;
    Ok(PreferenceRow::from(Pair {
        prompt,
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}
