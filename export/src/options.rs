//! The input and the result of an export.

use std::collections::BTreeMap;
use std::path::PathBuf;

use seeward_models::config::{HeadChoices, PixelLimits};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::Branch;
use seeward_models::prompt::Template;

/// The checkpoint to export, and the kind of bundle to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// A checkpoint folder in the Hugging Face layout, with `score.weight`.
    pub checkpoint: PathBuf,
    /// The bundle's folder: new, empty, or an existing bundle, which is replaced.
    pub output: PathBuf,
    /// The model to export from a shortcut-aware checkpoint, which holds two.
    pub branch: Branch,
    /// The target device and operator set of the graphs.
    pub target: Target,
    /// Precision of the weights.
    pub precision: Precision,
    /// Maximum number of tokens of a conversation; by default the value of training.
    pub max_length: Option<usize>,
    /// The conversation template; by default the one that `config.json` or a known chat template of the folder names.
    pub template: Option<Template>,
    /// The limits of an image's pixels, for a model that reads whole images; by default those of training.
    pub pixels: PixelLimits,
    /// What no file of the checkpoint says about its score head.
    pub head: HeadChoices,
}

/// The files and counts of a written bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of weight tensors, over both graphs.
    pub tensors: usize,
    /// Every file of the bundle and its size in bytes.
    pub files: BTreeMap<String, u64>,
    /// Number of the checkpoint's probes in the bundle.
    pub probes: usize,
    /// Number of skipped probes: another `max_length` than the trainer's truncates them, which changes their rewards.
    pub skipped_probes: usize,
    /// A notice of tensors that were ignored.
    pub notice: Option<String>,
}

impl Summary {
    /// Total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().sum()
    }
}

/// Progress in writing the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written so far.
    pub written: u64,
    /// Total bytes of all weights.
    pub total: u64,
}
