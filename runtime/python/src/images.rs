//! Images as Python has them.

use pyo3::buffer::{PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use seeward_models::sample::{CarriedKeys, ImageRef, ScoreRow};
use seeward_runtime::{Image, Rgb};
use serde_json::json;

const EXPECTED: &str =
    "a path, bytes, a PIL image, a uint8 array [height, width, 3] or {\"bytes\", \"path\"}";

/// None, an image, or a list of images.
///
/// # Errors
/// An exception that starts with the place of the image, if there are several.
pub(crate) fn images(value: &Bound<'_, PyAny>) -> PyResult<Vec<Image>> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    if !(value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()) {
        return Ok(vec![image(value)?]);
    }
    value.try_iter()?.map(|item| image(&item?)).collect()
}

/// One image.
///
/// # Errors
/// Another type, shape or address; a PIL image that cannot be decoded.
pub(crate) fn image(value: &Bound<'_, PyAny>) -> PyResult<Image> {
    if let Ok(text) = value.cast::<PyString>() {
        return of_text(text.to_str()?);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Image::bytes(bytes.as_bytes()));
    }
    if let Ok(row) = value.cast::<PyDict>() {
        return of_row(row);
    }
    if value.hasattr("__fspath__")? {
        return Ok(Image::Path(value.extract()?));
    }
    if value.hasattr("convert")? && value.hasattr("tobytes")? {
        return of_pil(value);
    }
    of_buffer(value)
}

/// A path, a `file://` address or a data URL, by the rules of rows.
fn of_text(text: &str) -> PyResult<Image> {
    let row = json!({ "prompt": "", "images": [text], "responses": [""] });
    let row = ScoreRow::parse(&row.to_string(), &CarriedKeys::default());
    let row = row.map_err(|error| PyValueError::new_err(error.to_string()))?;
    match row.images.as_slice() {
        [ImageRef::File(path)] => Ok(Image::path(path)),
        [ImageRef::Bytes(bytes)] => Ok(Image::bytes(&**bytes)),
        _ => Err(PyValueError::new_err(
            "images: expected a path, got an empty text",
        )),
    }
}

/// The struct of an image column of `datasets`.
fn of_row(row: &Bound<'_, PyDict>) -> PyResult<Image> {
    for key in ["bytes", "path"] {
        if let Some(value) = row.get_item(key)?.filter(|value| !value.is_none()) {
            return image(&value);
        }
    }
    let problem = "image: expected bytes or path, got a dictionary with neither";
    Err(PyValueError::new_err(problem))
}

/// The pixels that Pillow makes of it, as in the published code.
fn of_pil(image: &Bound<'_, PyAny>) -> PyResult<Image> {
    let converted = image.call_method1("convert", ("RGB",))?;
    let (width, height) = converted.getattr("size")?.extract()?;
    let pixels = converted.call_method0("tobytes")?;
    rgb(width, height, pixels.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// Bytes of a file, or pixels, in any strides.
fn of_buffer(value: &Bound<'_, PyAny>) -> PyResult<Image> {
    let buffer = PyUntypedBuffer::get(value).map_err(|_| unknown(value))?;
    let bytes: PyBuffer<u8> = buffer.into_typed().map_err(|_| {
        PyTypeError::new_err("image: expected values of type uint8, got an array of another type")
    })?;
    match *bytes.shape() {
        [_] => Ok(Image::bytes(bytes.to_vec(value.py())?)),
        [height, width, 3] => rgb(side(width)?, side(height)?, bytes.to_vec(value.py())?),
        ref other => Err(PyValueError::new_err(format!(
            "image: expected the shape [height, width, 3], got {other:?}"
        ))),
    }
}

/// The name of a value's type.
pub(crate) fn kind(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name();
    name.map_or_else(|_| "another type".to_owned(), |name| name.to_string())
}

fn unknown(value: &Bound<'_, PyAny>) -> PyErr {
    let got = kind(value);
    let hint = match value.hasattr("numpy") {
        Ok(true) => ": give image.numpy(), its last axis red, green and blue",
        _ => "",
    };
    PyTypeError::new_err(format!("image: expected {EXPECTED}, got {got}{hint}"))
}

fn side(length: usize) -> PyResult<u32> {
    let large = |_| PyValueError::new_err(format!("image: a side of {length} pixels"));
    u32::try_from(length).map_err(large)
}

fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> PyResult<Image> {
    let pixels = Rgb::new(width, height, pixels);
    pixels
        .map(Image::Rgb)
        .map_err(|error| PyValueError::new_err(format!("image: {error}")))
}
