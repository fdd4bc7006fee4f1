//! MM-RLHF-RewardBench (arXiv 2502.10391): `{"id", "prompt", "chosen", "rejected", "image" or "video"}`.
//!
//! A question's rows share its `id`. Acc is over all rows; Acc+ is the share of questions all of whose rows are right.
//! The category is the first of five words that is found in the path.

use super::super::fields::Fields;
use super::super::images;
use super::super::keys;
use super::super::{Group, Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::IMAGE_TAG;
use crate::{Error, Result};

const CATEGORIES: [&str; 5] = ["mcq", "long", "short", "safety", "video"];

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "mm-rlhf-rewardbench",
    marks: Marks::Sides(is_mm_rlhf),
    keys: None,
    images: "image",
    overlaps: Some("MM-RLHF"),
    read,
};

fn is_mm_rlhf(fields: &Fields) -> bool {
    let reasons = ["chosen_reason", "rejected_reason"];
    let has_reasons = reasons.iter().any(|key| fields.has(key));
    !fields.has("question") && (has_reasons || has_video(fields))
}

fn has_video(fields: &Fields) -> bool {
    let video = fields.peek("video");
    video.is_some_and(|json| !keys::is_blank(json))
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    if has_video(fields) {
        return Err(Error::invalid("videos are not supported").at("video"));
    }
    let images = images::under(fields, "image")?;
    let category = images
        .first()
        .and_then(|image| category(&image.to_string()));
    let pair = Pair {
        prompt: fields
            .string("prompt")?
            .replace(IMAGE_TAG, "")
            .trim()
            .into(),
        chosen: fields.string("chosen")?,
        rejected: fields.string("rejected")?,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    };
    Ok(PreferenceRow {
        group: Some(Group {
            area: category.unwrap_or("other").to_owned(),
            part: None,
        }),
        question: Some(fields.scalar("id")?),
        ..PreferenceRow::from(pair)
    })
}

fn category(path: &str) -> Option<&'static str> {
    CATEGORIES.into_iter().find(|word| path.contains(word))
}
