//! Requests: a question or a conversation, images and responses.

use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayView3};
use seeward_models::chat::Prompt;
use seeward_models::image::Rgb;

/// A prompt, its images and the responses to score.
///
/// ```
/// use seeward_runtime::{Image, Request};
///
/// let request = Request::new("what color is the shape?")
///     .image(Image::path("photos/1.png"))
///     .response("The shape is blue.")
///     .response("It is a circle, I think.");
/// assert_eq!(request.responses.len(), 2);
/// ```
///
/// A conversation of several turns, with a system message in place of the template's:
///
/// ```
/// use seeward_runtime::{Image, Message, Request};
///
/// let messages = vec![
///     Message::system("Answer in one sentence."),
///     Message::user("<image>\nwhat shape is this?"),
///     Message::assistant("A circle."),
///     Message::user("and its color?"),
/// ];
/// let request = Request::new(messages)
///     .image(Image::path("photos/1.png"))
///     .responses(["The shape is blue.", "It is a circle, I think."]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// What the responses answer, without the conversation template: a question or messages. [`Prompt`] says where the
    /// images stand in it.
    pub prompt: Prompt,
    /// The images, in order; without any the model reads text alone.
    pub images: Vec<Image>,
    /// At least one.
    pub responses: Vec<String>,
}

impl Request {
    /// A request with this question, or these messages, without images and responses.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self {
            prompt: prompt.into(),
            ..Self::default()
        }
    }

    /// Bytes of its texts, and of its images as far as they are in memory.
    pub(crate) fn bytes(&self) -> usize {
        let responses: usize = self.responses.iter().map(String::len).sum();
        let images: usize = self.images.iter().map(Image::bytes_in_memory).sum();
        self.prompt.bytes() + responses + images
    }

    /// Adds an image.
    pub fn image(self, image: impl Into<Image>) -> Self {
        self.images([image])
    }

    /// Adds images.
    pub fn images<I: Into<Image>>(mut self, images: impl IntoIterator<Item = I>) -> Self {
        self.images.extend(images.into_iter().map(Into::into));
        self
    }

    /// Adds a response.
    pub fn response(self, response: impl Into<String>) -> Self {
        self.responses([response])
    }

    /// Adds responses.
    pub fn responses<R: Into<String>>(mut self, responses: impl IntoIterator<Item = R>) -> Self {
        self.responses.extend(responses.into_iter().map(Into::into));
        self
    }
}

/// An image of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Image {
    /// A PNG, JPEG, WebP, GIF or BMP file.
    Path(PathBuf),
    /// The content of such a file.
    Bytes(Vec<u8>),
    /// Decoded pixels.
    Rgb(Rgb),
    /// Decoded pixels, red, green and blue: `[height, width, 3]`. Another shape is the request's error.
    Pixels(Array3<u8>),
}

impl Image {
    fn bytes_in_memory(&self) -> usize {
        match self {
            Self::Path(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Rgb(pixels) => pixels.pixels().len(),
            Self::Pixels(pixels) => pixels.len(),
        }
    }

    /// An image file.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::Path(path.into())
    }

    /// The content of an image file.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// A copy of decoded pixels `[height, width, 3]`.
    pub fn pixels(pixels: ArrayView3<u8>) -> Self {
        Self::Pixels(pixels.to_owned())
    }
}

impl From<PathBuf> for Image {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Image {
    fn from(path: &Path) -> Self {
        Self::path(path)
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Rgb> for Image {
    fn from(pixels: Rgb) -> Self {
        Self::Rgb(pixels)
    }
}

impl From<Array3<u8>> for Image {
    fn from(pixels: Array3<u8>) -> Self {
        Self::Pixels(pixels)
    }
}

impl From<ArrayView3<'_, u8>> for Image {
    fn from(pixels: ArrayView3<u8>) -> Self {
        Self::pixels(pixels)
    }
}
