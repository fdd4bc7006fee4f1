//! The output folder of a run: who may write it, the checkpoint that a run resumes from, and which ones are kept.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use seeward_models::atomic::replace_file;

use crate::config::{Config, Resume};
use crate::output::trainer_state::{Progress, TrainerState};
use crate::report::events;
use crate::report::metrics;

/// The checkpoint that a finished run leaves.
pub(crate) const LAST: &str = "checkpoint-last";
/// The checkpoint that did best in an evaluation.
pub(crate) const BEST: &str = "checkpoint-best";
/// The complete config of the run, next to the checkpoints and in each.
pub(crate) const RESOLVED_CONFIG: &str = "config.resolved.yaml";
/// Where a run keeps what its frozen vision model makes of images.
pub(crate) const FEATURES: &str = "vision-cache";
/// A checkpoint's optimizer state, unless it holds the model alone.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
const PREFIX: &str = "checkpoint-";
const WARMUP: &str = "warmup-";
/// The suffix of a damaged checkpoint's name after the run has resumed without it.
const DAMAGED: &str = ".damaged";

/// The output folder, of one process only.
pub struct OutputFolder {
    path: PathBuf,
    /// The folder itself, locked until it is closed.
    _lock: File,
}

/// The checkpoint that a run resumes from.
pub(crate) struct Resumed {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Its trainer state.
    pub(crate) state: TrainerState,
    /// Newer checkpoints that are damaged, and why.
    damaged: Vec<(PathBuf, anyhow::Error)>,
}

/// How old a checkpoint is, by its name; a later one is greater.
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

/// The folder name of the checkpoint of a run that is not complete.
pub(crate) fn name(progress: Progress) -> String {
    match progress.step {
        0 => format!("{PREFIX}{WARMUP}{}", progress.warmup),
        step => format!("{PREFIX}{step}"),
    }
}

impl OutputFolder {
    /// Creates the folder if need be, and locks it.
    ///
    /// # Errors
    /// Another run is writing it, or the disk.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        fs::create_dir_all(path).with_context(place)?;
        let lock = File::open(path).with_context(place)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            bail!("{}: another run is writing it", place());
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint to resume from: the folder's newest sound one, or in a new folder the one that `config` names, if it
    /// does; none if `config` starts from scratch. Nothing is written yet.
    ///
    /// # Errors
    /// Every checkpoint is damaged, or the sound one holds the model alone or was made under a config that gives other
    /// numbers; or the folder has checkpoints that `config` does not resume from.
    pub(crate) fn resume(&self, config: &Config) -> Result<Option<Resumed>> {
        if config.overwrite_output_dir {
            return Ok(None);
        }
        let newest = self.newest(config)?;
        match (&config.resume_from_checkpoint, newest) {
            (Resume::From(folder), None) => {
                let folder = PathBuf::from(folder);
                let state = TrainerState::of_sound(&folder).context("resume_from_checkpoint")?;
                Resumed::new(config, folder, state).map(Some)
            }
            (Resume::From(folder), Some(newest)) => {
                self.is_not_older(Path::new(folder), &newest)?;
                Ok(Some(newest))
            }
            (Resume::Never, Some(newest)) => bail!(
                "{}: resume_from_checkpoint: false wants a folder without checkpoints: choose another output_dir, or \
                 overwrite_output_dir: true",
                newest.folder.display()
            ),
            (_, newest) => Ok(newest),
        }
    }

    /// Steps that a run has taken here would be taken again over its newer checkpoints.
    fn is_not_older(&self, folder: &Path, newest: &Resumed) -> Result<()> {
        let (here, folder) = (self.path.canonicalize()?, folder.canonicalize().ok());
        let inside = folder.filter(|folder| folder.starts_with(here));
        ensure!(
            inside.is_none_or(|folder| newest.folder.canonicalize().is_ok_and(|f| f == folder)),
            "resume_from_checkpoint: {} is newer: choose another output_dir, or move newer checkpoints away",
            newest.folder.display()
        );
        Ok(())
    }

    /// The newest sound checkpoint of the folder.
    fn newest(&self, config: &Config) -> Result<Option<Resumed>> {
        let mut damaged = Vec::new();
        for folder in self.checkpoints()?.into_iter().rev() {
            match TrainerState::of_sound(&folder) {
                Ok(state) => {
                    let resumed = Resumed::new(config, folder, state)?;
                    return Ok(Some(Resumed { damaged, ..resumed }));
                }
                Err(error) => damaged.push((folder, error)),
            }
        }
        ensure!(damaged.is_empty(), "{}", no_sound_one(&self.path, &damaged));
        Ok(None)
    }

    /// Makes the folder ready for a run whose model and rows are loaded: damaged checkpoints are set aside, what was
    /// cut off is removed, and a run from the start leaves nothing of an earlier one. Returns what the user should know.
    ///
    /// # Errors
    /// `tokenizer_files`, which go into every checkpoint, are among what a run from the start removes; or the disk.
    pub(crate) fn begin(
        &self,
        config: &Config,
        resumed: Option<&Resumed>,
        tokenizer_files: &[PathBuf],
    ) -> Result<Vec<String>> {
        self.remove(|name| name.starts_with(".checkpoint-"))?;
        if resumed.is_none_or(|resumed| !resumed.folder.starts_with(&self.path)) {
            if config.overwrite_output_dir {
                self.holds_none_of(tokenizer_files)?;
                self.remove(is_of_a_run)?;
            }
            let text = config.resolved()?;
            replace_file(&self.path.join(RESOLVED_CONFIG), text.as_bytes())?;
        }
        let damaged = resumed.into_iter().flat_map(|resumed| &resumed.damaged);
        damaged.map(set_aside).collect()
    }

    /// Removes the oldest checkpoints beyond `keep`; the complete run's is not counted.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let mut checkpoints = self.checkpoints()?;
        checkpoints.retain(|folder| !folder.ends_with(LAST));
        for folder in &checkpoints[..checkpoints.len().saturating_sub(keep)] {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    fn holds_none_of(&self, files: &[PathBuf]) -> Result<()> {
        let folder = self.path.canonicalize()?;
        let inside = |file: &&PathBuf| file.canonicalize().is_ok_and(|f| f.starts_with(&folder));
        if let Some(file) = files.iter().find(inside) {
            bail!(
                "{}: the run starts from a model in its own output_dir, which overwrite_output_dir empties",
                file.display()
            );
        }
        Ok(())
    }

    /// Removes the files that only a resumed run needs.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.remove(|name| name == FEATURES)
    }

    /// The checkpoints, oldest first.
    fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        let mut found: Vec<_> = self
            .entries()?
            .into_iter()
            .filter_map(|name| Some((Age::of(&name)?, self.path.join(name))))
            .collect();
        found.sort();
        Ok(found.into_iter().map(|(_, folder)| folder).collect())
    }

    fn remove(&self, which: impl Fn(&str) -> bool) -> Result<()> {
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

impl Resumed {
    fn new(config: &Config, folder: PathBuf, state: TrainerState) -> Result<Self> {
        ensure!(
            state.vouches_for(OPTIMIZER),
            "{}: it holds the model alone (save_only_model), and no run can resume from it: choose another output_dir, or \
             overwrite_output_dir: true",
            folder.display()
        );
        same_numbers(config, &folder.join(RESOLVED_CONFIG))?;
        Ok(Self {
            folder,
            state,
            damaged: Vec::new(),
        })
    }
}

/// Whether a run writes files or folders of that name.
fn is_of_a_run(name: &str) -> bool {
    name.starts_with(PREFIX)
        || [metrics::FILE, RESOLVED_CONFIG, FEATURES].contains(&name)
        || events::is_file_name(name)
}

/// Gives a damaged checkpoint a name that no run resumes from.
fn set_aside((folder, error): &(PathBuf, anyhow::Error)) -> Result<String> {
    let mut name = folder.clone().into_os_string();
    name.push(DAMAGED);
    let aside = PathBuf::from(name);
    let move_it = || {
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(folder, &aside)
    };
    move_it().with_context(|| aside.display().to_string())?;
    Ok(format!(
        "warning: {error:#}: this checkpoint is not used; it is kept as {}",
        aside.display()
    ))
}

fn no_sound_one(output: &Path, damaged: &[(PathBuf, anyhow::Error)]) -> String {
    let errors: Vec<String> = damaged.iter().map(|(_, e)| format!("{e:#}")).collect();
    format!(
        "{}: no checkpoint to resume from is sound (overwrite_output_dir: true starts from scratch): {}",
        output.display(),
        errors.join("; ")
    )
}

/// A run may resume only with a config that gives the same values.
fn same_numbers(config: &Config, resolved: &Path) -> Result<()> {
    let (before, _) = Config::load(resolved, &[])?;
    let different = config.differences(&before);
    ensure!(
        different.is_empty(),
        "{}: the run was started with another {}: choose another output_dir, or overwrite_output_dir: true",
        resolved.display(),
        different.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_checkpoints_by_age() {
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
