//! The tasks of `seeward-score`.

use std::path::{Path, PathBuf};

use seeward_models::sample::CarriedKeys;
use seeward_runtime::{Device, Options};

use super::shard::Shard;
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
    /// The part of the input to score; `output` is its file.
    pub(crate) shard: Option<Shard>,
}

/// The shards of an output that are joined.
pub(super) struct Merge {
    pub(super) output: PathBuf,
    /// Whether files of another run are replaced.
    pub(super) replace: bool,
}

/// A bundle whose mean error is corrected.
pub(super) struct Correction {
    pub(super) model: PathBuf,
    pub(super) options: Options,
    /// Rows to measure it on; the bundle's probes when `None`.
    pub(super) reference: Option<Reference>,
}

/// Rows whose scores in fp32 are known.
pub(super) struct Reference {
    pub(super) input: PathBuf,
    /// `seeward-score`'s output for them with a bundle in fp32.
    pub(super) scores: PathBuf,
    pub(super) images: ImageFolder,
    pub(super) carried: CarriedKeys,
}

/// A bundle whose probes are scored again.
pub(super) struct Check {
    pub(super) model: PathBuf,
    pub(super) options: Options,
}

/// Whether `path` is standard output, a pipe or a device, which gets neither a journal nor an errors file.
pub(super) fn is_stream(path: &Path) -> bool {
    let other = |metadata: std::fs::Metadata| !metadata.is_file() && !metadata.is_dir();
    is_stdout(path) || path.metadata().is_ok_and(other)
}

pub(super) fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .iter()
        .any(|name| path == Path::new(name))
}
