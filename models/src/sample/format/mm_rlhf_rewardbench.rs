//! MM-RLHF-RewardBench (arXiv 2502.10391): `{"id", "prompt", "chosen", "rejected", "image" or "video"}`.
//!
//! A question's rows share its `id`. Acc is over all rows; Acc+ is the share of questions all of whose rows are right.
//! The category is the first of five words that is found in the path.

use super::super::fields::Fields;
use super::super::images;
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
    let keys = ["chosen_reason", "rejected_reason", "video"];
    !fields.has("question") && keys.iter().any(|key| fields.has(key))
}

fn read(fields: &Fields) -> Result<PreferenceRow> {
    if fields.has("video") {
        return Err(Error::invalid("videos are not supported").at("video"));
    }
    let images = images::paths(fields, "image")?;
    let category = images.first().and_then(|path| category(path));
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
