//! The images of rows.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::fields::{Fields, typed};
use super::keys::holds_image;
use crate::{Error, Result};

/// A file, as the `datasets` library writes one.
#[derive(Deserialize)]
struct File {
    path: Option<String>,
    bytes: Option<IgnoredAny>,
}

/// The keys of images in rows of no other format.
const KEYS: [&str; 3] = ["img_path", "images", "image"];

/// The key of the row's images, if it has any.
///
/// # Errors
/// Images under two keys.
pub(super) fn key(fields: &Fields) -> Result<Option<&'static str>> {
    let holds = |key: &&&str| **key == "img_path" || fields.peek(key).is_some_and(holds_image);
    let mut keys = KEYS.iter().filter(|key| fields.has(key)).filter(holds);
    match (keys.next(), keys.next()) {
        (first, None) => Ok(first.copied()),
        (first, Some(second)) => Err(Error::invalid(format!(
            "expected images under one key, got {} and {second}",
            first.unwrap_or(second)
        ))),
    }
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
