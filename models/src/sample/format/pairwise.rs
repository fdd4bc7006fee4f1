//! `{"prompt", "img_path", "chosen", "rejected"}`.

use super::super::fields::Fields;
use super::super::image_ref::ImageRef;
use super::super::images;
use super::super::{Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "pairwise",
    marks: Marks::PlainSides,
    keys: Some("chosen and rejected"),
    images: "img_path, or chosen_img_path and rejected_img_path",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let (chosen_images, rejected_images) = sides(fields)?;
    Ok(PreferenceRow::from(Pair {
        prompt: fields.string("prompt")?.into(),
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images,
        rejected_images,
        margin: 0.0,
    }))
}

/// The images of the chosen and of the rejected side: shared, or one key for each.
fn sides(fields: &Fields) -> Result<(Vec<ImageRef>, Vec<ImageRef>)> {
    let (chosen, rejected) = ("chosen_img_path", "rejected_img_path");
    match (fields.has(chosen), fields.has(rejected)) {
        (false, false) => images::under(fields, "img_path").map(|images| (images.clone(), images)),
        (true, true) if !fields.has("img_path") => Ok((
            images::under(fields, chosen)?,
            images::under(fields, rejected)?,
        )),
        _ => Err(Error::invalid(
            "expected img_path, or chosen_img_path and rejected_img_path (an empty list for no image)",
        )),
    }
}
