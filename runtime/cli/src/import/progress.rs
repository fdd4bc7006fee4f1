//! The progress of an import, and what only the same import can resume.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::arguments::Job;
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
    /// Base folder of the images, if it is not that of each file.
    image_root: Option<PathBuf>,
    /// Whether image paths may leave their folder.
    allow_outside_root: bool,
}

impl Identity {
    /// # Errors
    /// A file cannot be read.
    pub(super) fn new(job: &Job, shards: &[Shard], set: &Set) -> Result<Self> {
        let file = |shard: &Shard| Ok((shard.path().display().to_string(), shard.footer_hash()?));
        Ok(Self {
            set: set.name.to_owned(),
            files: shards.iter().map(file).collect::<Result<_>>()?,
            image_root: job.image_root.clone(),
            allow_outside_root: job.allow_outside_root,
        })
    }
}

impl journal::Identity for Identity {
    fn difference(&self, earlier: &Self) -> Option<String> {
        if self.set != earlier.set {
            return Some(format!("the set was {} and is {}", earlier.set, self.set));
        }
        let root = |identity: &Self| (identity.image_root.clone(), identity.allow_outside_root);
        if root(self) != root(earlier) {
            return Some("--image-root or --allow-outside-root has changed".to_owned());
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
