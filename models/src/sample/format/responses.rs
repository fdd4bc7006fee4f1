//! Scoring rows that say which response is best (`chosen_index`) or how good each is (`ratings`).

use serde_json::Value;

use super::super::fields::{Fields, typed};
use super::super::rating::rating;
use super::super::row_prompt::RowPrompt;
use super::super::{Candidates, PreferenceRow};
use super::spec::{FormatSpec, Marks};
use crate::{Error, Result};

pub(super) const FORMAT: FormatSpec = FormatSpec {
    name: "responses",
    marks: Marks::Keys(&["responses"]),
    keys: Some("responses"),
    images: "img_path, images or image",
    overlaps: None,
    read,
};

fn read(fields: &Fields) -> Result<PreferenceRow> {
    let responses = fields.strings("responses")?;
    let ratings = match (fields.get("chosen_index"), fields.get("ratings")) {
        (Some(index), None) => {
            let index = typed(index, "a place in responses").map_err(|e| e.at("chosen_index"))?;
            best(index, responses.len()).map_err(|e| e.at("chosen_index"))?
        }
        (None, Some(ratings)) => {
            let ratings: Vec<Value> =
                typed(ratings, "a list of numbers").map_err(|e| e.at("ratings"))?;
            one_each(&ratings, responses.len()).map_err(|e| e.at("ratings"))?
        }
        (Some(_), Some(_)) => {
            let problem = "expected chosen_index or ratings, got both";
            return Err(Error::invalid(problem));
        }
        (None, None) => {
            let problem = "expected chosen_index or ratings: which response is the better one";
            return Err(Error::invalid(problem));
        }
    };
    let asked = RowPrompt::read(fields)?;
    asked.is_open("responses")?;
    Ok(PreferenceRow::from(Candidates {
        prompt: asked.prompt,
        images: asked.images,
        rated: responses.into_iter().zip(ratings).collect(),
    }))
}

/// One for the best response, nothing for the others.
fn best(index: usize, count: usize) -> Result<Vec<Option<f64>>> {
    if index >= count {
        let problem = format!("expected the place of the best of {count} responses, got {index}");
        return Err(Error::invalid(problem));
    }
    let rating = |place| Some(f64::from(u8::from(place == index)));
    Ok((0..count).map(rating).collect())
}

fn one_each(ratings: &[Value], count: usize) -> Result<Vec<Option<f64>>> {
    match ratings.len() == count {
        true => Ok(ratings.iter().map(rating).collect()),
        false => Err(Error::invalid(format!(
            "expected one for each of {count} responses, got {}",
            ratings.len()
        ))),
    }
}
