//! The tasks of `seeward-score`.

use std::path::PathBuf;

use seeward_models::sample::CarriedKeys;
use seeward_runtime::{Device, Options};

use crate::arguments::EngineOptions;
use crate::image_folder::ImageFolder;

/// A file to score, with everything that decides how.
pub(crate) struct Job {
    pub(crate) model: PathBuf,
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    /// At least one; all of one kind.
    pub(crate) devices: Vec<Device>,
    pub(crate) engine: EngineOptions,
    pub(crate) images: ImageFolder,
    pub(crate) carried: CarriedKeys,
    pub(crate) resume: bool,
    pub(crate) stats: Option<PathBuf>,
}

/// A bundle whose probes are scored again.
pub(super) struct Check {
    pub(super) model: PathBuf,
    pub(super) options: Options,
}
