//! The images of rows.

use serde_json::value::RawValue;

use super::fields::{Fields, typed};
use super::image_ref::ImageRef;
use super::keys;
use crate::{Error, Result};

/// The keys of images in rows of no other format.
pub(super) const KEYS: &[&str] = &["img_path", "images", "image"];

/// The one of `keys` that holds the row's images, if one does. Under a key of the last two kinds a value that is neither
/// text nor an object is an identifier.
///
/// # Errors
/// Images under two keys.
pub(super) fn key<'k>(fields: &Fields, keys: &[&'k str]) -> Result<Option<&'k str>> {
    let holds = |key: &&&str| {
        let value = fields.peek(key).filter(|json| !keys::is_blank(json));
        let may_be_number = KEYS[1..].iter().any(|other| *other == **key);
        value.is_some_and(|json| !may_be_number || keys::holds_image(json))
    };
    let mut found = keys.iter().filter(holds);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(Error::invalid(format!(
            "expected images under one key, got {first} and {second}"
        ))),
        (first, _) => Ok(first.copied()),
    }
}

/// The images under the one of `keys` that holds them.
///
/// # Errors
/// Images under two keys, or as [`under`].
pub(super) fn of(fields: &Fields, keys: &[&str]) -> Result<Vec<ImageRef>> {
    let key = key(fields, keys)?.or(keys.first().copied());
    key.map_or(Ok(Vec::new()), |key| under(fields, key))
}

/// The images under `key`: one, a list of them, or nothing, which an empty string and a list of nothing say too.
///
/// # Errors
/// A value that is no image.
pub(super) fn under(fields: &Fields, key: &str) -> Result<Vec<ImageRef>> {
    let Some(value) = fields.get(key) else {
        return Ok(Vec::new());
    };
    let items: Vec<&RawValue> = match value.get().starts_with('[') {
        true => typed(value, "a list").map_err(|e| e.at(key))?,
        false => vec![value],
    };
    if items
        .iter()
        .all(|item| matches!(item.get(), "null" | "\"\""))
    {
        return Ok(Vec::new());
    }
    let is_list = value.get().starts_with('[');
    let image = |(index, item): (usize, &&RawValue)| {
        let image = ImageRef::read(item, fields.addresses());
        let image = image.map_err(|e| {
            if is_list {
                e.at(format!("[{index}]"))
            } else {
                e
            }
        });
        image.map_err(|e| e.at(key))
    };
    items.iter().enumerate().map(image).collect()
}
