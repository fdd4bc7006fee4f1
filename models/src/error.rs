//! The error of this crate: the problem, wrapped from outside in by its place (`file`, then line or tensor).

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// A problem with an input: a file, a row, a tensor, an image. Its message begins with the place and is complete: there
/// is no further `source`, so that programs that print chains repeat nothing. Callers that react to a certain problem
/// match [`Error::cause`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// The system's message.
        error: io::Error,
    },
    /// Content that breaks a rule: expected versus got.
    #[error("{0}")]
    Invalid(String),
    /// An image that cannot be used.
    #[error("{problem}")]
    Image {
        /// The kind of problem.
        fault: ImageFault,
        /// Its description.
        problem: String,
    },
    /// Images whose tokens alone exceed the length limit.
    #[error(
        "max_length {max_length} cuts the {needed} image tokens (use fewer tiles or raise max_length)"
    )]
    ImageTokensCut {
        /// Image tokens of the conversation.
        needed: usize,
        /// The length limit.
        max_length: usize,
    },
    /// A prompt with image tags, but not one for each image.
    #[error(
        "expected one <image> in the prompt for each image, or none at all: got {tags} for {images} images"
    )]
    ImageTags {
        /// Tags in the prompt.
        tags: usize,
        /// Images of the conversation.
        images: usize,
    },
    /// Images for a model without a vision encoder.
    #[error("expected no images for a model without a vision encoder, got {images}")]
    NoVision {
        /// Images of the conversation.
        images: usize,
    },
    /// Text that spells the placeholder of image tokens, where special tokens in texts are parsed.
    #[error(
        "{text}: a literal {token} would count as an image token (literal_special_tokens reads it as text)"
    )]
    ContextToken {
        /// The placeholder.
        token: &'static str,
        /// The text that spells it.
        text: Text,
    },
    /// A row to score without responses.
    #[error("expected at least one")]
    NoResponses,
    /// Any of these, with its place put before the message.
    #[error("{place}: {error}")]
    At {
        /// Path, line, tensor or image.
        place: String,
        /// The problem there.
        error: Box<Error>,
    },
}

/// Why an image cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageFault {
    /// The file cannot be read.
    Unreadable,
    /// Not an image of a known format.
    Format,
    /// Broken, cut off, or coded in a way that is not supported.
    Content,
    /// More pixels, or a longer side, than allowed.
    TooLarge,
}

/// A text of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The prompt.
    Prompt,
    /// The response.
    Response,
}

impl Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prompt => "prompt",
            Self::Response => "response",
        })
    }
}

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Content that breaks a rule.
    pub fn invalid(problem: impl Display) -> Self {
        Self::Invalid(problem.to_string())
    }

    /// The operating system refused something about `path`.
    pub fn io(path: impl AsRef<Path>, error: io::Error) -> Self {
        Self::Io {
            path: path.as_ref().to_owned(),
            error,
        }
    }

    /// An image that cannot be used.
    pub fn image(fault: ImageFault, problem: impl Display) -> Self {
        Self::Image {
            fault,
            problem: problem.to_string(),
        }
    }

    /// The same error, with `place` put before its message.
    pub fn at(self, place: impl Display) -> Self {
        Self::At {
            place: place.to_string(),
            error: Box::new(self),
        }
    }

    /// The problem without its places.
    pub fn cause(&self) -> &Self {
        match self {
            Self::At { error, .. } => error.cause(),
            cause => cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_below_its_places() {
        let error = Error::NoResponses.at("responses").at("rows.jsonl:3");
        assert_eq!(
            error.to_string(),
            "rows.jsonl:3: responses: expected at least one"
        );
        assert!(matches!(error.cause(), Error::NoResponses));
    }
}
