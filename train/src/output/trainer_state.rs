//! `trainer_state.json`: the progress of a run, and the hashes that verify a checkpoint.

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

/// The progress of a run; later progress is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Warm-up steps of the text-only branch alone.
    pub(crate) warmup: usize,
    /// Optimizer steps after the warm-up of the text-only branch.
    pub(crate) step: usize,
}

/// The trainer's state other than weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Progress of the run.
    pub(crate) progress: Progress,
    /// Number of updates of each tensor.
    pub(crate) updates: BTreeMap<String, i32>,
    /// The best evaluation so far, if the run tracks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<Best>,
    /// Numbers of the training rows that were skipped so far.
    #[serde(
        rename = "left_out",
        default,
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub(crate) skipped_rows: BTreeSet<usize>,
    /// sha256 of the training rows; version 0.1.0 wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<String>,
    /// Rows of a complete step, of all processes together; absent if the config says so for one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows_per_step: Option<usize>,
    /// sha256 of every other file of the checkpoint, by relative path.
    files: BTreeMap<String, String>,
}

/// The file: the state and the hash of its text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sha256: String,
    state: Box<RawValue>,
}

impl TrainerState {
    /// The state of a run with this progress and these updates.
    pub(crate) fn new(progress: Progress, updates: BTreeMap<String, i32>) -> Self {
        Self {
            progress,
            updates,
            best: None,
            skipped_rows: BTreeSet::new(),
            rows: None,
            rows_per_step: None,
            files: BTreeMap::new(),
        }
    }

    /// Writes the state, with the hashes of all other files in `folder`, which must be complete.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn write(mut self, folder: &Path) -> Result<()> {
        add_hashes(folder, &mut self.files)?;
        let state = serde_json::value::to_raw_value(&self)?;
        let sealed = Sealed {
            sha256: hash(state.get()),
            state,
        };
        // Without a newline at the end, whose loss the hash would not detect.
        Ok(replace_file(
            &folder.join(FILE),
            &serde_json::to_vec(&sealed)?,
        )?)
    }

    /// Whether the checkpoint has a file of this name.
    pub(crate) fn has_file(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Reads the state of a checkpoint and verifies the hash of each of its files.
    ///
    /// # Errors
    /// A file is missing or has changed; the message names it.
    pub fn read_verified(folder: &Path) -> Result<Self> {
        let state = Self::read(folder)?;
        for (name, expected) in &state.files {
            let path = folder.join(name);
            require_hash(&path, expected, &file_hash(&path)?)?;
        }
        Ok(state)
    }

    /// Reads the state of a checkpoint, whose other files are not verified.
    ///
    /// # Errors
    /// The state is missing or has changed.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let place = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(place)?;
        require_own(&text).with_context(place)?;
        let sealed: Sealed = serde_json::from_str(&text).with_context(place)?;
        require_hash(&path, &sealed.sha256, &hash(sealed.state.get()))?;
        serde_json::from_str(sealed.state.get()).with_context(place)
    }
}

/// Refuses the state that the Hugging Face trainer writes under the same name.
fn require_own(text: &str) -> Result<()> {
    let state: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    ensure!(
        state.get("global_step").is_none(),
        "the state of another trainer, from which no run can resume: start from its checkpoint with model_name_or_path, \
         and in another output_dir"
    );
    Ok(())
}

/// The step of a checkpoint, by a state that is not verified.
pub(crate) fn step(folder: &Path) -> Option<usize> {
    let text = fs::read_to_string(folder.join(FILE)).ok()?;
    let sealed: Sealed = serde_json::from_str(&text).ok()?;
    let state: TrainerState = serde_json::from_str(sealed.state.get()).ok()?;
    Some(state.progress.step)
}

fn require_hash(path: &Path, expected: &str, got: &str) -> Result<()> {
    ensure!(
        got == expected,
        "{}: expected sha256 {expected}, got {got}: the file has changed since it was written",
        path.display()
    );
    Ok(())
}
