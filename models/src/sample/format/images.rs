//! The images of rows in common formats, and their places in the prompt.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::fields::{Fields, typed};
use crate::{Error, Result};

/// The tag that stands for an image.
pub(super) const TAG: &str = "<image>";

/// A file, as the `datasets` library writes one.
#[derive(Deserialize)]
struct File {
    path: Option<String>,
    bytes: Option<IgnoredAny>,
}

/// The paths under `key`: a string, a `{"path": …}`, a list of either, or nothing.
pub(super) fn paths(fields: &Fields, key: &str) -> Result<Vec<String>> {
    let Some(value) = fields.get(key) else {
        return Ok(Vec::new());
    };
    let items: Vec<&RawValue> = match value.get().starts_with('[') {
        true => typed(value, "a list")?,
        false => vec![value],
    };
    let path = |(index, item): (usize, &&RawValue)| {
        path(item).map_err(|e| e.at(format!("[{index}]")).at(key))
    };
    items.iter().enumerate().map(path).collect()
}

fn path(value: &RawValue) -> Result<String> {
    const EXPECTED: &str = "a path or an object with one";
    let path = match value.get().starts_with('{') {
        false => typed(value, EXPECTED)?,
        true => match typed::<File>(value, EXPECTED)? {
            File {
                path: Some(path), ..
            } => path,
            File { bytes: Some(_), .. } => {
                let problem = "expected a path, got the image's bytes (save images as files)";
                return Err(Error::invalid(problem));
            }
            File { .. } => return Err(Error::invalid("path: expected a string, got nothing")),
        },
    };
    match path.is_empty() {
        true => Err(Error::invalid("expected a path, got an empty string")),
        false => Ok(path),
    }
}

/// The prompt without the tag of its only image, which comes first in any case.
///
/// # Errors
/// That tag is not at the start.
pub(super) fn one_comes_first(prompt: &str, images: usize) -> Result<String> {
    if images != 1 || !prompt.contains(TAG) {
        return Ok(prompt.to_owned());
    }
    let rest = prompt.trim_start().strip_prefix(TAG);
    match rest.filter(|rest| !rest.contains(TAG)) {
        Some(rest) => Ok(rest.strip_prefix('\n').unwrap_or(rest).to_owned()),
        None => Err(Error::invalid(format!(
            "expected the tag {TAG} of the only image at the start of the prompt"
        ))),
    }
}
