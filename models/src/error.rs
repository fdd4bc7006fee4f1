//! The error of this crate: what went wrong, wrapped from outside in by where (`file`, then line or tensor).

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// A problem with an input: a file, a row, a tensor, an image. Its message begins with the place and is whole: there
/// is no further `source`, so that programs that print chains say nothing twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Content that breaks a rule: expected versus got.
    #[error("{0}")]
    Invalid(String),
    /// Any of these, with the place it happened in put before it.
    #[error("{place}: {error}")]
    At {
        /// Path, line, tensor or image.
        place: String,
        /// What happened there.
        error: Box<Error>,
    },
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

    /// The same error, with `place` put before its message.
    pub fn at(self, place: impl Display) -> Self {
        Self::At {
            place: place.to_string(),
            error: Box::new(self),
        }
    }
}
