//! The progress of an import, and what only the same import can resume.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::set::Set;
use super::shard::Shard;
use crate::journal;

/// The row groups that are converted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Index of the file.
    pub(super) file: usize,
    /// Row groups of that file.
    pub(super) group: usize,
    /// Rows so far, in all files.
    pub(super) rows: u64,
}

/// Everything that decides the bytes of the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    set: String,
    /// Path and sha256 of the footer of each file.
    files: Vec<(String, String)>,
}

impl Identity {
    /// # Errors
    /// A file cannot be read.
    pub(super) fn new(shards: &[Shard], set: &Set) -> Result<Self> {
        let file = |shard: &Shard| Ok((shard.path().display().to_string(), shard.footer_hash()?));
        Ok(Self {
            set: set.name.to_owned(),
            files: shards.iter().map(file).collect::<Result<_>>()?,
        })
    }
}

impl journal::Identity for Identity {
    fn difference(&self, earlier: &Self) -> Option<String> {
        if self.set != earlier.set {
            return Some(format!("the set was {} and is {}", earlier.set, self.set));
        }
        let changed = earlier.files.iter().zip(&self.files).find(|(a, b)| a != b);
        match changed {
            Some(((before, _), _)) => Some(format!("{before} has changed")),
            // More files may follow.
            None if self.files.len() < earlier.files.len() => Some("a file is missing".to_owned()),
            None => None,
        }
    }
}
