//! Requests as Python has them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use seeward_models::chat::IMAGE_TAG;
use seeward_runtime::{Image, Message, Prompt, Request, Role};

use crate::images::{image, images, kind};

const PROMPT: [&str; 2] = ["prompt", "messages"];
const RESPONSES: &str = "responses";
const IMAGES: [&str; 3] = ["images", "image", "img_path"];

/// A request of a prompt or messages, responses, and images.
///
/// # Errors
/// A wrong type, with the name of the argument first.
pub(crate) fn request(
    prompt: &Bound<'_, PyAny>,
    responses: Vec<String>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<Request> {
    let (prompt, within) = self::prompt(prompt)?;
    let given = given.map_or_else(|| Ok(Vec::new()), images)?;
    if !given.is_empty() && !within.is_empty() {
        let problem = "images: expected them in the messages or as images, got both";
        return Err(PyValueError::new_err(problem));
    }
    let images = within.into_iter().chain(given);
    Ok(Request::new(prompt).images(images).responses(responses))
}

/// A request of a dictionary.
///
/// # Errors
/// A missing or unknown key; a wrong type.
pub(crate) fn of_row(row: &Bound<'_, PyAny>) -> PyResult<Request> {
    let got = kind(row);
    let wrong = |_| PyTypeError::new_err(format!("request: expected a dictionary, got {got}"));
    let row = row.cast::<PyDict>().map_err(wrong)?;
    for key in row.keys() {
        let key: String = key.extract()?;
        let mut known = PROMPT.iter().chain(&IMAGES).chain([&RESPONSES]);
        if !known.any(|known| key == *known) {
            let problem = "expected the keys prompt (or messages), images and responses alone";
            return Err(PyValueError::new_err(format!("{key}: {problem}")));
        }
    }
    let missing = |key: &str| PyValueError::new_err(format!("{key}: missing"));
    let asked = one_of(row, &PROMPT)?.ok_or_else(|| missing(PROMPT[0]))?;
    let given = row.get_item(RESPONSES)?.ok_or_else(|| missing(RESPONSES))?;
    let images = one_of(row, &IMAGES)?;
    request(&asked, texts(&given)?, images.as_ref())
}

/// The value of the one key that the row has.
///
/// # Errors
/// It has two.
fn one_of<'py>(row: &Bound<'py, PyDict>, keys: &[&str]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut found = None;
    for key in keys {
        let value = row.get_item(key)?.filter(|value| !value.is_none());
        if value.is_some() && found.is_some() {
            let keys = keys.join(", ");
            let problem = format!("{key}: expected one of {keys}, got two");
            return Err(PyValueError::new_err(problem));
        }
        found = found.or(value);
    }
    Ok(found)
}

/// The texts of a list of responses.
///
/// # Errors
/// A single text, or other items.
pub(crate) fn texts(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let problem = |got: &Bound<'_, PyAny>| {
        let got = kind(got);
        PyTypeError::new_err(format!("responses: expected a list of texts, got {got}"))
    };
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyDict>() {
        return Err(problem(value));
    }
    let items = value.try_iter().map_err(|_| problem(value))?;
    items
        .map(|item| {
            let item = item?;
            item.extract().map_err(|_| problem(&item))
        })
        .collect()
}

/// A question, or messages with the images within them.
fn prompt(value: &Bound<'_, PyAny>) -> PyResult<(Prompt, Vec<Image>)> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok((Prompt::from(text.to_str()?), Vec::new()));
    }
    if !(value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()) {
        let got = kind(value);
        let problem = format!("prompt: expected a text or a list of messages, got {got}");
        return Err(PyTypeError::new_err(problem));
    }
    let mut within = Vec::new();
    let mut messages = Vec::new();
    for item in value.try_iter()? {
        messages.push(message(&item?, &mut within)?);
    }
    Ok((Prompt::Messages(messages), within))
}

fn message(value: &Bound<'_, PyAny>, within: &mut Vec<Image>) -> PyResult<Message> {
    let wrong = || {
        let got = kind(value);
        let problem = format!("prompt: expected messages with role and content, got {got}");
        PyTypeError::new_err(problem)
    };
    let fields = value.cast::<PyDict>().map_err(|_| wrong())?;
    let field = |name: &str| fields.get_item(name)?.ok_or_else(wrong);
    let role: String = field("role")?.extract().map_err(|_| wrong())?;
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let problem =
                format!("prompt: expected the role system, user or assistant, got {role}");
            return Err(PyValueError::new_err(problem));
        }
    };
    Ok(Message::new(role, content(&field("content")?, within)?))
}

/// A text, or parts of text and images; an image part may hold its image.
fn content(value: &Bound<'_, PyAny>, within: &mut Vec<Image>) -> PyResult<String> {
    if let Ok(text) = value.extract() {
        return Ok(text);
    }
    let got = kind(value);
    let wrong = |_| {
        let problem = format!("content: expected a text or a list of parts, got {got}");
        PyTypeError::new_err(problem)
    };
    let parts = value.cast::<PyList>().map_err(wrong)?;
    parts.iter().map(|item| part(&item, within)).collect()
}

fn part(value: &Bound<'_, PyAny>, within: &mut Vec<Image>) -> PyResult<String> {
    let field = |name: &str| -> PyResult<_> {
        let fields = value.cast::<PyDict>()?;
        Ok(fields.get_item(name)?.filter(|value| !value.is_none()))
    };
    let named = field("type")?.map(|name| name.to_string());
    match (named.as_deref(), field("text")?, field("image")?) {
        (Some("text"), Some(text), _) => text.extract(),
        (Some("image"), _, held) => {
            within.extend(held.map(|held| image(&held)).transpose()?);
            Ok(format!("{IMAGE_TAG}\n"))
        }
        (named, ..) => Err(PyValueError::new_err(format!(
            "content: expected parts of type text or image, got {}",
            named.unwrap_or("none")
        ))),
    }
}
