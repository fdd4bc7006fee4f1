//! `trainer_state.json`: the progress of a run, and the hashes that distinguish a sound checkpoint from a damaged one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use seeward_models::atomic::replace_file;
use seeward_models::hash::{add_hashes, file_hash, hash};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::step::best::Best;

const FILE: &str = "trainer_state.json";

/// How far a run is. A later one is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Steps that the text-only branch has taken alone.
    pub(crate) warmup: usize,
    /// Optimizer steps of the run proper.
    pub(crate) step: usize,
}

/// What the trainer knows besides weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// How far the run was.
    pub(crate) progress: Progress,
    /// Updates that each tensor has had.
    pub(crate) updates: BTreeMap<String, i32>,
    /// The best evaluation so far, of a run that looks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<Best>,
    /// Numbers of the rows that were met so far and skipped.
    #[serde(
        rename = "left_out",
        default,
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub(crate) skipped_rows: BTreeSet<usize>,
    /// sha256 of every other file of the checkpoint, by relative path.
    files: BTreeMap<String, String>,
}

/// The file: the state, and the hash of its text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sha256: String,
    state: Box<RawValue>,
}

impl TrainerState {
    /// Of a run that has come so far with these updates.
    pub(crate) fn new(progress: Progress, updates: BTreeMap<String, i32>) -> Self {
        Self {
            progress,
            updates,
            best: None,
            skipped_rows: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// Completes a checkpoint whose other files are all in `folder`.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn write(mut self, folder: &Path) -> Result<()> {
        add_hashes(folder, &mut self.files)?;
        let state = serde_json::value::to_raw_value(&self)?;
        let sealed = Sealed {
            sha256: hash(state.get()),
            state,
        };
        // No newline at the end: the seal would not notice that it is gone.
        Ok(replace_file(
            &folder.join(FILE),
            &serde_json::to_vec(&sealed)?,
        )?)
    }

    /// Whether the checkpoint has this file.
    pub(crate) fn vouches_for(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Reads the state of a checkpoint whose files are all unchanged since they were written.
    ///
    /// # Errors
    /// A file that is missing or has changed; it is named.
    pub fn of_sound(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let place = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(place)?;
        let sealed: Sealed = serde_json::from_str(&text).with_context(place)?;
        unchanged(&path, &sealed.sha256, &hash(sealed.state.get()))?;
        let state: Self = serde_json::from_str(sealed.state.get()).with_context(place)?;
        for (name, expected) in &state.files {
            let path = folder.join(name);
            unchanged(&path, expected, &file_hash(&path)?)?;
        }
        Ok(state)
    }
}

fn unchanged(path: &Path, expected: &str, got: &str) -> Result<()> {
    ensure!(
        got == expected,
        "{}: expected sha256 {expected}, got {got}: the file has changed since it was written",
        path.display()
    );
    Ok(())
}
