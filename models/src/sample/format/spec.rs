//! A format of preference rows as data.

use super::super::PreferenceRow;
use super::super::fields::Fields;
use crate::Result;

/// A way to write down preferences: one file and one entry of [`FORMATS`](super::FORMATS) add one.
pub(super) struct FormatSpec {
    /// Its name in options and messages.
    pub(super) name: &'static str,
    /// The rows that are recognised as of this format.
    pub(super) marks: Marks,
    /// The keys that the message about rows of no format offers.
    pub(super) keys: Option<&'static str>,
    /// The keys of its images.
    pub(super) images: &'static str,
    /// The usual training sets whose sources a benchmark draws on.
    pub(super) overlaps: Option<&'static str>,
    /// Reads a row.
    pub(super) read: fn(&Fields) -> Result<PreferenceRow>,
}

/// The keys by which a row's format is recognised.
pub(super) enum Marks {
    /// Any of these, which no other format has.
    Keys(&'static [&'static str]),
    /// `chosen` or `rejected`, where the test holds.
    Sides(fn(&Fields) -> bool),
    /// `chosen` or `rejected`, where no other format's test holds.
    PlainSides,
}

impl FormatSpec {
    /// The keys that identify this format alone.
    pub(super) fn own_keys(&self) -> &'static [&'static str] {
        match self.marks {
            Marks::Keys(keys) => keys,
            Marks::Sides(_) | Marks::PlainSides => &[],
        }
    }
}
