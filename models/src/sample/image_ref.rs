//! An image as a row has it: the path of a file, or the file's content.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use super::addresses::Addresses;
use super::fields::typed;
use crate::hash::hash;
use crate::{Error, Result};

/// An image of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageRef {
    /// The path of an image file; in a row of
    /// [`ScoreRow::parse_with_addresses`](super::ScoreRow::parse_with_addresses), also an http(s) address.
    File(String),
    /// The content of an image file.
    Bytes(Arc<[u8]>),
}

/// A file, as the `datasets` library names one, or an address, as OpenAI's messages do.
#[derive(Deserialize)]
struct Object {
    #[serde(alias = "url")]
    path: Option<String>,
    bytes: Option<Content>,
}

/// The content of a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Base64(String),
    List(Vec<u8>),
}

impl ImageRef {
    /// Reads a path, an address or an object with one of them or with the image's bytes.
    ///
    /// # Errors
    /// Another type, an empty path, an address that is no file's and not kept, or bytes that are not base64.
    pub(super) fn read(value: &RawValue, addresses: Addresses) -> Result<Self> {
        const EXPECTED: &str = "a path, or an object with path or bytes";
        if !value.get().starts_with('{') {
            return Self::of_text(&typed::<String>(value, EXPECTED)?, addresses);
        }
        match typed(value, EXPECTED)? {
            Object {
                bytes: Some(Content::List(bytes)),
                ..
            } => Ok(Self::Bytes(bytes.into())),
            Object {
                bytes: Some(Content::Base64(text)),
                ..
            } => decode(&text).map_err(|e| e.at("bytes")),
            Object {
                path: Some(path), ..
            } => Self::of_text(&path, addresses),
            Object { .. } => Err(Error::invalid("expected path or bytes, got neither")),
        }
    }

    /// A path, `file://` address or data URL.
    fn of_text(text: &str, addresses: Addresses) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("expected a path, got an empty string"));
        }
        if let Some(data) = text.strip_prefix("data:") {
            let (_, data) = data.split_once(";base64,").ok_or_else(|| {
                Error::invalid("expected a data URL in base64: data:image/png;base64,…")
            })?;
            return decode(data);
        }
        match text.split_once("://") {
            Some(("file", path)) => Ok(Self::File(unescaped(path)?)),
            Some(_) if addresses == Addresses::Kept && is_address(text) => {
                Ok(Self::File(text.to_owned()))
            }
            Some((scheme, _)) if is_scheme(scheme) => Err(Error::invalid(format!(
                "expected a file, got an address ({scheme}://…): images are not downloaded; save it and give its path"
            ))),
            _ => Ok(Self::File(text.to_owned())),
        }
    }

    /// The http(s) address, if it is one.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::File(text) if is_address(text) => Some(text),
            _ => None,
        }
    }

    /// Joins a relative path to `root`.
    pub fn resolve(&mut self, root: &Path) {
        if let Self::File(path) = self {
            *path = root.join(&*path).to_string_lossy().into_owned();
        }
    }

    /// The content of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn content(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::File(path) => fs::read(path).map(Cow::Owned),
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// A short name that no other image has: the path, or the hash of the bytes.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::File(path) => Cow::Borrowed(path),
            Self::Bytes(bytes) => Cow::Owned(hash(bytes)),
        }
    }
}

/// As messages name it.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Bytes(bytes) => write!(f, "({} bytes in the row)", bytes.len()),
        }
    }
}

/// As rows have it.
impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, output: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => path.serialize(output),
            Self::Bytes(bytes) => json!({ "bytes": STANDARD.encode(bytes) }).serialize(output),
        }
    }
}

fn decode(base64: &str) -> Result<ImageRef> {
    let bytes = STANDARD.decode(base64);
    let bytes = bytes.map_err(|e| Error::invalid(format!("expected base64: {e}")))?;
    Ok(ImageRef::Bytes(bytes.into()))
}

fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The path of a `file://` address, whose bytes may be written as `%20`.
fn unescaped(path: &str) -> Result<String> {
    let path = match path.strip_prefix("localhost/") {
        Some(path) => format!("/{path}"),
        None => path.to_owned(),
    };
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, tail @ ..] = rest {
        let byte = match (first, tail) {
            (b'%', [high, low, ..]) => hexadecimal(*high, *low),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("not UTF-8: {path}")))
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ImageRef> {
        ImageRef::read(
            &RawValue::from_string(json.to_owned()).unwrap(),
            Addresses::Refused,
        )
    }

    #[test]
    fn images_are_files_or_their_content() {
        let file = |path: &str| ImageRef::File(path.to_owned());
        let bytes = || ImageRef::Bytes([1, 2, 255].as_slice().into());
        for (json, image) in [
            (r#""a b%20.png""#, file("a b%20.png")),
            (r#""odd:name.png""#, file("odd:name.png")),
            (r#""file:///x/a%20b%C3%A9.png""#, file("/x/a bé.png")),
            (r#""file://localhost/a%2.png""#, file("/a%2.png")),
            (r#""file://a b.png""#, file("a b.png")),
            (r#""data:image/png;base64,AQL/""#, bytes()),
            (r#"{"path":"a.png","bytes":null}"#, file("a.png")),
            (r#"{"url":"a.png","detail":"low"}"#, file("a.png")),
            (r#"{"path":"a.png","bytes":"AQL/"}"#, bytes()),
            (r#"{"path":null,"bytes":[1,2,255]}"#, bytes()),
        ] {
            assert_eq!(read(json).unwrap(), image, "{json}");
        }
        for image in [file("a.png"), bytes()] {
            assert_eq!(
                read(&serde_json::to_string(&image).unwrap()).unwrap(),
                image
            );
        }
    }

    #[test]
    fn addresses_are_kept_where_they_may_be() {
        let read = |json: &str| {
            let value = RawValue::from_string(json.to_owned()).unwrap();
            ImageRef::read(&value, Addresses::Kept)
        };
        for address in ["http://a.b/c.png", "HTTPS://a.b/c.png"] {
            let image = read(&format!(r#"{{"url":"{address}"}}"#)).unwrap();
            assert_eq!(image.address(), Some(address));
        }
        assert_eq!(read(r#""http/a.png""#).unwrap().address(), None);
        let error = read(r#""ftp://a.b/c.png""#).unwrap_err().to_string();
        assert!(error.contains("got an address (ftp://"), "{error}");
    }

    #[test]
    fn what_is_no_image_says_what_is_expected() {
        for (json, expected) in [
            (r#""""#, "expected a path, got an empty string"),
            (
                "7",
                "expected a path, or an object with path or bytes, got a number",
            ),
            (
                r#""https://x.org/a.png""#,
                "expected a file, got an address (https://…): images are not downloaded",
            ),
            (
                r#"{"url":"s3://b/a.png"}"#,
                "expected a file, got an address (s3://…)",
            ),
            (r#""data:image/png,x""#, "expected a data URL in base64"),
            (r#"{"bytes":"?"}"#, "bytes: expected base64: Invalid"),
            (
                r#"{"bytes":[256]}"#,
                "expected a path, or an object with path or bytes, got an object",
            ),
            (r#"{"path":null}"#, "expected path or bytes, got neither"),
        ] {
            let message = read(json).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{json}: {message}");
        }
    }
}
