//! InternVL's `{"image", "question", "chosen", "rejected"}`; `image` is a path or a list of paths.

use super::super::fields::Fields;
use super::super::{Pair, PreferenceRow};
use super::images;
use super::spec::{FormatSpec, Marks};
use crate::Result;

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "internvl",
    marks: Marks::Sides(|fields| fields.has("question")),
    keys: None,
    images: "image",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let images = images::paths(fields, "image")?;
    Ok(PreferenceRow::from(Pair {
        prompt: images::one_comes_first(&fields.string("question")?, images.len())?,
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    }))
}
