//! The output folder of a run: its lock, the names of its files, and its checkpoints.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::output::trainer_state::{self, Progress};
use crate::report::events;
use crate::report::metrics;
use crate::world::ranks::World;

/// The checkpoint of a complete run.
pub(crate) const LAST: &str = "checkpoint-last";
/// The checkpoint with the best evaluation.
pub(crate) const BEST: &str = "checkpoint-best";
/// The complete config of the run, in the output folder and in each checkpoint.
pub(crate) const RESOLVED_CONFIG: &str = "config.resolved.yaml";
/// The feature cache of a frozen vision model.
const FEATURES: &str = "vision-cache";
/// Rows that were unpacked.
const ROWS: &str = "rows";
/// The optimizer state of a checkpoint, unless the run saves the model only.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
const PREFIX: &str = "checkpoint-";
const WARMUP: &str = "warmup-";

/// The output folder, locked by the process that leads.
pub struct OutputFolder {
    path: PathBuf,
    /// The number of this process.
    rank: usize,
    /// The open folder, which holds the lock.
    _lock: File,
}

/// The age of a checkpoint, by its name; a later checkpoint is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Warmup(usize),
    Step(usize),
    Last,
}

impl Age {
    fn of(name: &str) -> Option<Self> {
        let age = name.strip_prefix(PREFIX)?;
        match age.strip_prefix(WARMUP) {
            _ if name == LAST => Some(Self::Last),
            Some(steps) => steps.parse().ok().map(Self::Warmup),
            None => age.parse().ok().map(Self::Step),
        }
    }
}

/// The name of the checkpoint of an incomplete run.
pub(crate) fn name(progress: Progress) -> String {
    match progress.step {
        0 => format!("{PREFIX}{WARMUP}{}", progress.warmup),
        step => format!("{PREFIX}{step}"),
    }
}

impl OutputFolder {
    /// Creates the folder if it is missing, and locks it if this process leads.
    ///
    /// # Errors
    /// Another run has locked the folder, or an I/O error.
    pub fn open(path: &Path, world: &World) -> Result<Self> {
        let place = || path.display().to_string();
        fs::create_dir_all(path).with_context(place)?;
        let lock = File::open(path).with_context(place)?;
        if world.leads()
            && let Err(TryLockError::WouldBlock) = lock.try_lock()
        {
            bail!("{}: another run is writing it", place());
        }
        Ok(Self {
            path: path.to_owned(),
            rank: world.ranks().rank,
            _lock: lock,
        })
    }

    /// The path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of rows that this process unpacks.
    pub(crate) fn rows(&self) -> PathBuf {
        self.of_process(ROWS)
    }

    /// The folder of the features that this process caches.
    pub(crate) fn features(&self) -> PathBuf {
        self.of_process(FEATURES)
    }

    /// `name` itself for the process that leads, a folder in it for any other: so no two write one file.
    fn of_process(&self, name: &str) -> PathBuf {
        let folder = self.path.join(name);
        match self.rank {
            0 => folder,
            rank => folder.join(format!("rank-{rank}")),
        }
    }

    /// Removes the oldest checkpoints until `keep` are left; that of a complete run is not counted.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let mut checkpoints = self.checkpoints()?;
        checkpoints.retain(|folder| !folder.ends_with(LAST));
        for folder in &checkpoints[..checkpoints.len().saturating_sub(keep)] {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    /// Removes files that only a resumed run needs.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.remove(|name| [FEATURES, ROWS].contains(&name))
    }

    /// The checkpoints, oldest first. That of a complete run is older than those of its extension.
    pub(super) fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        let aged = |name: String| {
            let (age, folder) = (Age::of(&name)?, self.path.join(name));
            let step = trainer_state::step(&folder).filter(|_| age == Age::Last);
            Some((step.map_or(age, Age::Step), age == Age::Last, folder))
        };
        let mut found: Vec<_> = self.entries()?.into_iter().filter_map(aged).collect();
        found.sort();
        Ok(found.into_iter().map(|(.., folder)| folder).collect())
    }

    /// Removes the files and folders whose names `which` selects.
    pub(super) fn remove(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.entries()?.iter().filter(|name| which(name)) {
            let path = self.path.join(name);
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.path).with_context(|| self.path.display().to_string())?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// Whether a run writes files or folders of this name.
pub(super) fn is_of_a_run(name: &str) -> bool {
    name.starts_with(PREFIX)
        || [metrics::FILE, RESOLVED_CONFIG, FEATURES].contains(&name)
        || events::is_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_sort_by_their_names_from_old_to_new() {
        let names = [
            name(Progress { warmup: 9, step: 0 }),
            name(Progress {
                warmup: 10,
                step: 0,
            }),
            name(Progress {
                warmup: 10,
                step: 9,
            }),
            name(Progress {
                warmup: 10,
                step: 10,
            }),
            LAST.to_owned(),
        ];
        let ages: Vec<_> = names.iter().map(|name| Age::of(name)).collect();
        assert!(
            ages.iter().all(Option::is_some) && ages.is_sorted(),
            "{ages:?}"
        );
        for other in [
            "checkpoint-4.damaged",
            "checkpoint-",
            ".checkpoint-4.partial",
            "x",
        ] {
            assert_eq!(Age::of(other), None, "{other}");
        }
    }
}
