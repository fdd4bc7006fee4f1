//! The formats of preference rows: one file each, the table of all, and how the format of a row is recognised.

mod alpaca;
mod internvl;
mod llama_factory;
mod mm_rlhf_rewardbench;
mod ms_swift;
mod multimodal_rewardbench;
mod openai;
mod pairwise;
mod responses;
mod spec;
mod trl;
mod vl_rewardbench;
mod vlfeedback;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::carried::CarriedKeys;
use super::context;
use super::fields::Fields;
use super::keys::{self, Layout};
use super::{Lines, PreferenceRow};
use crate::{Error, Result};
use spec::{FormatSpec, Marks};

/// Every format. Of those with `chosen` and `rejected` the last whose test holds is taken.
static FORMATS: [FormatSpec; 12] = [
    pairwise::FORMAT,
    vlfeedback::FORMAT,
    responses::FORMAT,
    trl::FORMAT,
    ms_swift::FORMAT,
    internvl::FORMAT,
    llama_factory::FORMAT,
    alpaca::FORMAT,
    openai::FORMAT,
    vl_rewardbench::FORMAT,
    mm_rlhf_rewardbench::FORMAT,
    multimodal_rewardbench::FORMAT,
];

/// The keys of explicit pairs, which several formats have.
const SIDES: [&str; 2] = ["chosen", "rejected"];

/// A way to write down preferences, by its name.
#[derive(Clone, Copy)]
pub struct Format(&'static FormatSpec);

impl Format {
    /// The names of all formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|format| format.name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The usual training sets whose sources a benchmark draws on: a model that was trained on one of them may have met
    /// part of the benchmark.
    pub fn overlaps(self) -> Option<&'static str> {
        self.0.overlaps
    }

    fn read(self, fields: &Fields) -> Result<PreferenceRow> {
        let mut row = (self.0.read)(fields)?;
        context::add(fields, &mut row)?;
        let layout = Layout {
            rows: format!("rows of format {self}"),
            images: self.0.images,
        };
        keys::check(fields, &layout)?;
        Ok(row)
    }

    /// Whether a row that is recognised as of this format may be of another one too, as it has no images.
    fn is_of_several(self, fields: &Fields) -> bool {
        const IMAGES: [&str; 3] = ["img_path", "chosen_img_path", "rejected_img_path"];
        matches!(self.0.marks, Marks::PlainSides) && !IMAGES.iter().any(|key| fields.names(key))
    }

    /// The format whose keys the row has.
    fn of(fields: &Fields) -> Result<Self> {
        let mut marks = marks(fields);
        let Some((key, format)) = marks.next() else {
            return Err(no_format());
        };
        match marks.find(|(_, other)| *other != format) {
            Some((other_key, other)) => Err(Error::invalid(format!(
                "keys of two formats: {key} ({format}) and {other_key} ({other})"
            ))),
            None if SIDES.contains(&key) => Ok(with_sides(fields).unwrap_or(format)),
            None => Ok(format),
        }
    }
}

/// The keys of the row that identify a format, those of a single format first.
fn marks(fields: &Fields) -> impl Iterator<Item = (&'static str, Format)> {
    let own = FORMATS.iter().flat_map(|format| {
        let keys = format.own_keys().iter();
        keys.map(move |&key| (key, Format(format)))
    });
    let plain = FORMATS
        .iter()
        .filter(|format| matches!(format.marks, Marks::PlainSides));
    let sides = plain.flat_map(|format| SIDES.map(|key| (key, Format(format))));
    own.chain(sides).filter(|(key, _)| fields.has(key))
}

/// The format of a row with `chosen` and `rejected`, if they are not plain ones.
fn with_sides(fields: &Fields) -> Option<Format> {
    let holds = |format: &&FormatSpec| match format.marks {
        Marks::Sides(test) => test(fields),
        Marks::Keys(_) | Marks::PlainSides => false,
    };
    FORMATS.iter().rev().find(holds).map(Format)
}

fn no_format() -> Error {
    let keys: Vec<_> = FORMATS.iter().filter_map(|format| format.keys).collect();
    let (last, others) = keys.split_last().unwrap_or((&"", &[]));
    let others = others.join(", ");
    Error::invalid(format!(
        "no format has these keys: expected {others}, or {last}"
    ))
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = FORMATS.iter().find(|format| format.name == name);
        known.map(Self).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            let names = names.join(", ");
            Error::invalid(format!("format {name}: expected one of {names}"))
        })
    }
}

/// Reads the preference rows of a file, which are all of one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceReader {
    format: Option<Format>,
    carried: CarriedKeys,
    /// Whether every row must be recognised as of this format; if not, the user named it.
    recognised: bool,
}

impl PreferenceReader {
    /// A reader of rows of this format, whatever other keys they have.
    pub fn named(format: Format, carried: CarriedKeys) -> Self {
        Self {
            format: Some(format),
            carried,
            recognised: false,
        }
    }

    /// A reader of the format of the first row in `path` that has one; rows of text alone may be of several.
    ///
    /// # Errors
    /// The file cannot be read. [`Self::read`] reports problems of its rows.
    pub fn recognise(path: &Path, carried: CarriedKeys) -> Result<Self> {
        let (mut plain, mut format) = (None, None);
        for item in Lines::open(path)? {
            let (_, row) = item.map_err(|e| Error::io(path, e))?;
            let fields = row.and_then(|row| Fields::parse(&row, &carried));
            let found = fields.and_then(|fields| Ok((Format::of(&fields)?, fields)));
            let Ok((found, fields)) = found else { continue };
            if found.is_of_several(&fields) {
                plain.get_or_insert((found, fields));
                continue;
            }
            let first = plain.take();
            let others = first.filter(|(_, row)| found.read(row).is_err());
            format = Some(others.map_or(found, |(format, _)| format));
            break;
        }
        Ok(Self {
            format: format.or(plain.map(|(format, _)| format)),
            carried,
            recognised: true,
        })
    }

    /// The format; `None` for a file none of whose rows has one.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Reads a row.
    ///
    /// # Errors
    /// Not JSON, another format, a key is missing or of the wrong type, or a key that by its name holds an image, a video,
    /// turns or a margin is not read by the format and not declared carried.
    pub fn read(&self, row: &str) -> Result<PreferenceRow> {
        let fields = Fields::parse(row, &self.carried)?;
        match self.format {
            Some(format) if !self.recognised => format.read(&fields),
            expected => {
                let found = Format::of(&fields)?;
                let expected = expected.unwrap_or(found);
                let another = || {
                    Error::invalid(format!(
                        "expected a row of format {expected}, as the file's first, got {found}"
                    ))
                };
                match found == expected {
                    true => found.read(&fields),
                    false if found.is_of_several(&fields) => {
                        expected.read(&fields).map_err(|_| another())
                    }
                    false => Err(another()),
                }
            }
        }
    }
}

impl PreferenceRow {
    /// Reads a row of whatever format it is recognised as.
    ///
    /// # Errors
    /// Not JSON, keys of no format or of two, a key is missing or of the wrong type, or as [`PreferenceReader::read`] one
    /// that is not read.
    pub fn parse(row: &str) -> Result<Self> {
        Self::of(&Fields::parse(row, &CarriedKeys::default())?)
    }

    pub(super) fn of(fields: &Fields) -> Result<Self> {
        Format::of(fields)?.read(fields)
    }
}

#[cfg(test)]
mod tests;
