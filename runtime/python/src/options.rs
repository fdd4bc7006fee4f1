//! Options of loading a model, as keyword arguments.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use seeward_runtime::{InputMode, Options, ParseDeviceError, Scale};

pub(crate) const INPUTS: [(&str, InputMode); 3] = [
    ("full", InputMode::Full),
    ("text_only", InputMode::TextOnly),
    ("image_only", InputMode::ImageOnly),
];
const SCALES: [(&str, Scale); 3] = [
    ("raw", Scale::Raw),
    ("uncorrected", Scale::Uncorrected),
    ("whitened", Scale::Whitened),
];

/// The options of keyword arguments; those that are None keep their defaults.
pub(crate) fn read_options(given: &Bound<'_, PyDict>) -> PyResult<Options> {
    let mut options = Options::default();
    for (key, value) in given.iter().filter(|(_, value)| !value.is_none()) {
        let key: String = key.extract()?;
        set_option(&mut options, &key, &value).map_err(|error| {
            let py = value.py();
            PyErr::from_type(error.get_type(py), format!("{key}: {}", error.value(py)))
        })?;
    }
    Ok(options)
}

fn set_option(options: &mut Options, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match key {
        "device" => {
            let device: String = value.extract()?;
            options.device = device.parse().map_err(|error: ParseDeviceError| {
                let text = error.to_string();
                PyValueError::new_err(text.trim_start_matches("device: ").to_owned())
            })?;
        }
        "threads" => options.threads = Some(value.extract()?),
        "batch_tokens" => options.batch_tokens = value.extract()?,
        "max_image_pixels" => options.max_image_pixels = value.extract()?,
        "input" => options.input = named(&INPUTS, value)?,
        "scale" => options.scale = named(&SCALES, value)?,
        "cache_dir" => options.cache_dir = Some(value.extract()?),
        "gpu_memory_limit" => options.gpu_memory_limit = Some(value.extract()?),
        "image_cache_bytes" => options.image_cache_bytes = value.extract()?,
        "library" => options.library = Some(value.extract()?),
        _ => return Err(PyValueError::new_err("unknown option")),
    }
    Ok(())
}

fn named<T: Copy>(names: &[(&str, T)], value: &Bound<'_, PyAny>) -> PyResult<T> {
    let given: String = value.extract()?;
    let found = names.iter().find(|(name, _)| *name == given);
    let expected: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let unknown = || {
        let expected = expected.join(", ");
        PyValueError::new_err(format!("expected one of {expected}, got {given}"))
    };
    Ok(found.ok_or_else(unknown)?.1)
}
