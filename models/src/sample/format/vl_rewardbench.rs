//! VL-RewardBench (arXiv 2411.17451): `{"id", "query", "response": [a, b], "human_ranking", "image_path" or "image"}`.
//!
//! `human_ranking` holds the rank of each response, 0 for the better one. The official script takes the part of a row
//! from the folder of its `image_path`; rows without one (the hub's) are identified by the start of `id`. Its accuracies are
//! over all pairs (overall) and the mean over the three areas (macro).

use super::super::fields::{Fields, missing, typed};
use super::super::images;
use super::super::{Group, Pair, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::chat::IMAGE_TAG;
use crate::{Error, Result};

/// Folder, start of `id`, area. Ids of the last part begin with the names of VLFeedback's many sources.
const PARTS: [(&str, &str, &str); 7] = [
    ("rlaif-v", "RLAIF", "hallucination"),
    ("rlhf-v", "RLHF", "hallucination"),
    ("povid", "hallucination", "hallucination"),
    ("reasoning_tasks", "mathverse", "reasoning"),
    ("reasoning_tasks", "mmmu", "reasoning"),
    ("wildvision-battle", "wildvision", "general"),
    ("vlfeedback", "", "general"),
];
const RANKING: &str = "[0, 1] or [1, 0]";

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "vl-rewardbench",
    marks: Marks::Keys(&["human_ranking"]),
    keys: Some("response and human_ranking"),
    images: "image_path or image",
    overlaps: Some("VLFeedback, RLAIF-V, RLHF-V and POVID"),
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let (chosen, rejected) = ranked(fields)?;
    // Rows that have both mean one image by them.
    let (by_path, image) = (fields.has("image_path"), images::under(fields, "image"));
    let images = match by_path {
        true => images::under(fields, "image_path")?,
        false => image?,
    };
    let pair = Pair {
        prompt: untagged(&fields.string("query")?).into(),
        chosen,
        rejected,
        chosen_images: images.clone(),
        rejected_images: images,
        margin: 0.0,
    };
    Ok(PreferenceRow {
        group: Some(group(fields)?),
        ..PreferenceRow::from(pair)
    })
}

/// As the official script asks: the one image comes first.
fn untagged(query: &str) -> String {
    query
        .replace(&format!("{IMAGE_TAG}\n"), "")
        .replace(IMAGE_TAG, "")
}

/// The better and the worse response.
fn ranked(fields: &Fields) -> Result<(String, String)> {
    let value = fields.get("human_ranking");
    let value = value.ok_or_else(|| missing("human_ranking", RANKING))?;
    let ranking: Vec<i64> = typed(value, RANKING).map_err(|e| e.at("human_ranking"))?;
    let responses = <[String; 2]>::try_from(fields.strings("response")?);
    let [first, second] = responses
        .map_err(|got| Error::invalid(format!("expected two, got {}", got.len())).at("response"))?;
    match *ranking {
        [0, 1] => Ok((first, second)),
        [1, 0] => Ok((second, first)),
        _ => {
            let problem = format!("expected {RANKING}, got {}", value.get());
            Err(Error::invalid(problem).at("human_ranking"))
        }
    }
}

fn group(fields: &Fields) -> Result<Group> {
    let by_folder = match fields.has("image_path") {
        true => part_of_path(&fields.string("image_path")?),
        false => None,
    };
    let (part, _, area) = match by_folder {
        Some(part) => part,
        None => part_of_id(&fields.string("id")?),
    };
    Ok(Group {
        area: (*area).to_owned(),
        part: Some((*part).to_owned()),
    })
}

type Part = (&'static str, &'static str, &'static str);

fn part_of_path(path: &str) -> Option<&'static Part> {
    let names = |folder: &str| path.split('/').any(|name| name == folder);
    PARTS.iter().find(|(folder, _, _)| names(folder))
}

fn part_of_id(id: &str) -> &'static Part {
    let part = PARTS.iter().find(|(_, start, _)| id.starts_with(start));
    part.unwrap_or(&PARTS[PARTS.len() - 1])
}
