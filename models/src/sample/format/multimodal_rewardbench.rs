//! Multimodal RewardBench (arXiv 2502.14191): `{"ID", "Text", "Image", "Output1", "Output2", "Better", "Category"}`.
//!
//! The official script averages over all pairs and over each category, of which it divides safety (`pairs…` is bias,
//! the rest toxicity) and reasoning (`math…` is mathematics, the rest coding) by the start of `ID`.

use super::super::fields::Fields;
use super::super::images;
use super::super::{Group, Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::IMAGE_TAG;
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "multimodal-rewardbench",
    marks: Marks::Keys(&["Better", "Output1"]),
    keys: Some("Output1, Output2 and Better"),
    images: "Image",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let outputs = (fields.string("Output1")?, fields.string("Output2")?);
    let (chosen, rejected) = match fields.string("Better")?.as_str() {
        "Output1" => outputs,
        "Output2" => (outputs.1, outputs.0),
        other => {
            let problem = format!("expected Output1 or Output2, got {other}");
            return Err(Error::invalid(problem).at("Better"));
        }
    };
    let images = images::under(fields, "Image")?;
    let pair = Pair {
        prompt: fields.string("Text")?.replace(IMAGE_TAG, "").into(),
        chosen,
        rejected,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    };
    Ok(PreferenceRow {
        group: Some(group(&fields.string("Category")?, &fields.string("ID")?)),
        ..PreferenceRow::from(pair)
    })
}

fn group(category: &str, id: &str) -> Group {
    let begins = |start: &str| id.to_lowercase().starts_with(start);
    let part = match category {
        "safety" if begins("pairs") => Some("bias"),
        "safety" => Some("toxicity"),
        "reasoning" if begins("math") => Some("math"),
        "reasoning" => Some("coding"),
        _ => None,
    };
    Group {
        area: category.to_owned(),
        part: part.map(str::to_owned),
    }
}
