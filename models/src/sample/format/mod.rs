//! The formats of preference rows: one file each, and here what they are called and how a row's is told.

mod chat;
mod images;
mod internvl;
mod mm_rlhf_rewardbench;
mod ms_swift;
mod multimodal_rewardbench;
mod pairwise;
mod responses;
mod trl;
mod vl_rewardbench;
mod vlfeedback;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::carried::{self, CarriedKeys, Layout};
use super::fields::Fields;
use super::{Lines, PreferenceRow};
use crate::{Error, Result};

/// A way to write down preferences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{"prompt", "img_path", "chosen", "rejected"}`, or with `chosen_img_path` and `rejected_img_path`; `margin`.
    Pairwise,
    /// `{"prompt", "img_path", "completions"}`: rated completions.
    VlFeedback,
    /// `{"prompt", "img_path", "responses"}` with `chosen_index` or `ratings`.
    Responses,
    /// TRL's preference rows: `prompt`, `chosen` and `rejected` as strings or messages, and `images`.
    Trl,
    /// ms-swift's `{"messages", "rejected_response", "images"}`.
    MsSwift,
    /// InternVL's `{"image", "question", "chosen", "rejected"}`.
    InternVl,
    /// The benchmark VL-RewardBench.
    VlRewardBench,
    /// The benchmark MM-RLHF-RewardBench.
    MmRlhfRewardBench,
    /// The benchmark Multimodal RewardBench.
    MultimodalRewardBench,
}

use Format::*;

/// Every format and its name.
const NAMES: [(Format, &str); 9] = [
    (Pairwise, "pairwise"),
    (VlFeedback, "vlfeedback"),
    (Responses, "responses"),
    (Trl, "trl"),
    (MsSwift, "ms-swift"),
    (InternVl, "internvl"),
    (VlRewardBench, "vl-rewardbench"),
    (MmRlhfRewardBench, "mm-rlhf-rewardbench"),
    (MultimodalRewardBench, "multimodal-rewardbench"),
];

/// Keys that tell a format. Those with `chosen` and `rejected` are told apart by [`with_two_sides`].
const MARKS: [(&str, Format); 9] = [
    ("completions", VlFeedback),
    ("responses", Responses),
    ("messages", MsSwift),
    ("rejected_response", MsSwift),
    ("human_ranking", VlRewardBench),
    ("Better", MultimodalRewardBench),
    ("Output1", MultimodalRewardBench),
    ("chosen", Pairwise),
    ("rejected", Pairwise),
];

impl Format {
    /// The usual training sets whose sources a benchmark draws on: a model that was trained on one of them may have met
    /// part of the benchmark.
    pub fn overlaps(self) -> Option<&'static str> {
        match self {
            VlRewardBench => Some("VLFeedback, RLAIF-V, RLHF-V and POVID"),
            MmRlhfRewardBench => Some("MM-RLHF"),
            _ => None,
        }
    }

    /// The key of its images.
    fn images(self) -> &'static str {
        match self {
            Pairwise => "img_path, or chosen_img_path and rejected_img_path",
            VlFeedback | Responses => "img_path",
            Trl => "images or image",
            MsSwift => "images and rejected_images",
            InternVl | MmRlhfRewardBench => "image",
            VlRewardBench => "image_path or image",
            MultimodalRewardBench => "Image",
        }
    }

    fn read(self, fields: &Fields, carried: &CarriedKeys) -> Result<PreferenceRow> {
        let row = self.parse(fields)?;
        let layout = Layout {
            rows: format!("rows of format {self}"),
            images: self.images(),
        };
        carried::check(fields, &layout, carried)?;
        Ok(row)
    }

    fn parse(self, fields: &Fields) -> Result<PreferenceRow> {
        match self {
            Pairwise => pairwise::read(fields),
            VlFeedback => vlfeedback::read(fields),
            Responses => responses::read(fields),
            Trl => trl::read(fields),
            MsSwift => ms_swift::read(fields),
            InternVl => internvl::read(fields),
            VlRewardBench => vl_rewardbench::read(fields),
            MmRlhfRewardBench => mm_rlhf_rewardbench::read(fields),
            MultimodalRewardBench => multimodal_rewardbench::read(fields),
        }
    }

    /// The format whose keys the row has.
    fn of(fields: &Fields) -> Result<Self> {
        let mut marks = MARKS.iter().filter(|(key, _)| fields.has(key));
        let Some((key, format)) = marks.next() else {
            return Err(Error::invalid(
                "no format has these keys: expected chosen and rejected, completions, responses, messages and \
                 rejected_response, response and human_ranking, or Output1, Output2 and Better",
            ));
        };
        match marks.find(|(_, other)| other != format) {
            Some((other_key, other)) => Err(Error::invalid(format!(
                "keys of two formats: {key} ({format}) and {other_key} ({other})"
            ))),
            None if *format == Pairwise => Ok(with_two_sides(fields)),
            None => Ok(*format),
        }
    }
}

fn with_two_sides(fields: &Fields) -> Format {
    let has = |keys: &[&str]| keys.iter().any(|key| fields.has(key));
    if has(&["question"]) {
        InternVl
    } else if has(&["chosen_reason", "rejected_reason", "video"]) {
        MmRlhfRewardBench
    } else if has(&["images", "image"]) || fields.is_list("chosen") || fields.is_list("prompt") {
        Trl
    } else {
        Pairwise
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(format, _)| format == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(_, known)| *known == name);
        known.map(|(format, _)| *format).ok_or_else(|| {
            let names = NAMES.map(|(_, name)| name).join(", ");
            Error::invalid(format!("format {name}: expected one of {names}"))
        })
    }
}

/// Reads the preference rows of a file, which are all of one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceReader {
    format: Option<Format>,
    carried: CarriedKeys,
    /// Whether every row must be recognised as of this format; if not, somebody named it.
    recognised: bool,
}

impl PreferenceReader {
    /// A reader of rows that somebody says to be of this format, whatever other keys they have.
    pub fn named(format: Format, carried: CarriedKeys) -> Self {
        Self {
            format: Some(format),
            carried,
            recognised: false,
        }
    }

    /// A reader of the format of the first row in `path` that has one.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong with its rows, [`Self::read`] tells.
    pub fn recognise(path: &Path, carried: CarriedKeys) -> Result<Self> {
        let mut format = None;
        for item in Lines::open(path)? {
            let (_, row) = item.map_err(|e| Error::io(path, e))?;
            let fields = row.and_then(|row| Fields::parse(&row));
            format = fields.and_then(|fields| Format::of(&fields)).ok();
            if format.is_some() {
                break;
            }
        }
        Ok(Self {
            format,
            carried,
            recognised: true,
        })
    }

    /// The format; `None` of a file none of whose rows has one.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Reads a row.
    ///
    /// # Errors
    /// Not JSON, another format, a key is missing or of the wrong type, or a key that by its name holds an image, a video,
    /// turns or a margin is not read by the format and not declared carried.
    pub fn read(&self, row: &str) -> Result<PreferenceRow> {
        let fields = Fields::parse(row)?;
        match self.format {
            Some(format) if !self.recognised => format.read(&fields, &self.carried),
            expected => {
                let found = Format::of(&fields)?;
                let expected = expected.unwrap_or(found);
                if found != expected {
                    let problem = format!(
                        "expected a row of format {expected}, as the file's first, got {found}"
                    );
                    return Err(Error::invalid(problem));
                }
                found.read(&fields, &self.carried)
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
        Self::of(&Fields::parse(row)?, &CarriedKeys::default())
    }

    pub(super) fn of(fields: &Fields, carried: &CarriedKeys) -> Result<Self> {
        Format::of(fields)?.read(fields, carried)
    }
}

#[cfg(test)]
mod tests;
