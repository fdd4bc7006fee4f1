//! What can be wrong with a JPEG.

use crate::{Error, ImageFault};

/// Why a block of coefficients could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The coded data end before the block does.
    DataEnd,
    /// Bits that no symbol has, or coefficients that no block has.
    BadCode,
}

/// What comes of coded data.
pub(super) type Decoded<T = ()> = std::result::Result<T, Damage>;

impl Damage {
    /// Its error, in a scan with which the file ends or not.
    pub(super) fn error(self, ends_file: bool) -> Error {
        broken(match self {
            Self::DataEnd if ends_file => return cut_off(),
            Self::DataEnd => "the JPEG has lost blocks: a scan ends before its last block",
            Self::BadCode => "the JPEG has lost blocks: its coded data are damaged",
        })
    }
}

/// An error of the file's content.
pub(super) fn broken(problem: impl std::fmt::Display) -> Error {
    Error::image(ImageFault::Content, problem)
}

/// The error of a file that ends while blocks are missing.
pub(super) fn cut_off() -> Error {
    broken("the JPEG ends before its last block: the file was cut off")
}
