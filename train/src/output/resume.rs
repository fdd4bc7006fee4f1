//! Resuming a run: the checkpoint of its output folder from which it continues, and the folder made ready for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use seeward_models::atomic::replace_file;

use crate::config::{Config, Resume};
use crate::output::folder::{OPTIMIZER, OutputFolder, RESOLVED_CONFIG, is_of_a_run};
use crate::output::trainer_state::TrainerState;

/// Suffix of a damaged checkpoint's name once a run has resumed without it.
const DAMAGED: &str = ".damaged";

/// The checkpoint from which a run resumes.
pub(crate) struct Resumed {
    /// Folder of the checkpoint.
    pub(crate) folder: PathBuf,
    /// The trainer's state.
    pub(crate) state: TrainerState,
    /// Newer, damaged checkpoints with their errors.
    damaged: Vec<(PathBuf, anyhow::Error)>,
}

impl OutputFolder {
    /// Finds the checkpoint to resume from: the folder's newest intact one, or, in a folder without checkpoints, the one
    /// that `config` names. `None` starts from scratch. Writes nothing.
    ///
    /// # Errors
    /// Every checkpoint is damaged; the intact one has no optimizer state, or its config differs in a key that affects
    /// the weights; or `config` asks for a folder without newer checkpoints.
    pub(crate) fn resume(&self, config: &Config) -> Result<Option<Resumed>> {
        if config.overwrite_output_dir {
            return Ok(None);
        }
        let newest = self.newest(config)?;
        match (&config.resume_from_checkpoint, newest) {
            (Resume::From(folder), None) => {
                let folder = PathBuf::from(folder);
                let state =
                    TrainerState::read_verified(&folder).context("resume_from_checkpoint")?;
                Resumed::new(config, folder, state).map(Some)
            }
            (Resume::From(folder), Some(newest)) => {
                self.require_newest(Path::new(folder), &newest)?;
                Ok(Some(newest))
            }
            (Resume::Never, Some(newest)) => bail!(
                "{}: resume_from_checkpoint: false needs a folder without checkpoints: choose another output_dir, or \
                 overwrite_output_dir: true",
                newest.folder.display()
            ),
            (_, newest) => Ok(newest),
        }
    }

    /// Refuses a checkpoint of this folder that is not its newest: resuming would overwrite the newer ones.
    fn require_newest(&self, folder: &Path, newest: &Resumed) -> Result<()> {
        let (here, folder) = (self.path().canonicalize()?, folder.canonicalize().ok());
        let inside = folder.filter(|folder| folder.starts_with(here));
        ensure!(
            inside.is_none_or(|folder| newest.folder.canonicalize().is_ok_and(|f| f == folder)),
            "resume_from_checkpoint: {} is newer: choose another output_dir, or move newer checkpoints away",
            newest.folder.display()
        );
        Ok(())
    }

    /// The newest intact checkpoint of the folder.
    fn newest(&self, config: &Config) -> Result<Option<Resumed>> {
        let mut damaged = Vec::new();
        for folder in self.checkpoints()?.into_iter().rev() {
            match TrainerState::read_verified(&folder) {
                Ok(state) => {
                    let resumed = Resumed::new(config, folder, state)?;
                    return Ok(Some(Resumed { damaged, ..resumed }));
                }
                Err(error) => damaged.push((folder, error)),
            }
        }
        ensure!(damaged.is_empty(), "{}", none_intact(self.path(), &damaged));
        Ok(None)
    }

    /// Prepares the folder for a run whose model and rows are loaded: renames damaged checkpoints, removes partial ones,
    /// and, for a run that starts from scratch, all files of an earlier run. Returns notices.
    ///
    /// # Errors
    /// A run from scratch would remove `tokenizer_files`, which every checkpoint needs; or an I/O error.
    pub(crate) fn begin(
        &self,
        config: &Config,
        resumed: Option<&Resumed>,
        tokenizer_files: &[PathBuf],
    ) -> Result<Vec<String>> {
        self.remove(|name| name.starts_with(".checkpoint-"))?;
        if resumed.is_none_or(|resumed| !resumed.folder.starts_with(self.path())) {
            if config.overwrite_output_dir {
                self.require_outside(tokenizer_files)?;
                self.remove(is_of_a_run)?;
            }
            let text = config.resolved()?;
            replace_file(&self.path().join(RESOLVED_CONFIG), text.as_bytes())?;
        }
        let damaged = resumed.into_iter().flat_map(|resumed| &resumed.damaged);
        damaged.map(set_aside).collect()
    }

    fn require_outside(&self, files: &[PathBuf]) -> Result<()> {
        let folder = self.path().canonicalize()?;
        let inside = |file: &&PathBuf| file.canonicalize().is_ok_and(|f| f.starts_with(&folder));
        if let Some(file) = files.iter().find(inside) {
            bail!(
                "{}: the run starts from a model in its own output_dir, which overwrite_output_dir empties",
                file.display()
            );
        }
        Ok(())
    }
}

impl Resumed {
    fn new(config: &Config, folder: PathBuf, state: TrainerState) -> Result<Self> {
        ensure!(
            state.has_file(OPTIMIZER),
            "{}: no run can resume from it, as it has no optimizer state (save_only_model): choose another output_dir, or \
             overwrite_output_dir: true",
            folder.display()
        );
        require_same_weights(config, &folder.join(RESOLVED_CONFIG))?;
        Ok(Self {
            folder,
            state,
            damaged: Vec::new(),
        })
    }
}

/// Renames a damaged checkpoint, so that no run resumes from it. Returns a notice.
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

fn none_intact(output: &Path, damaged: &[(PathBuf, anyhow::Error)]) -> String {
    let errors: Vec<String> = damaged.iter().map(|(_, e)| format!("{e:#}")).collect();
    format!(
        "{}: no intact checkpoint to resume from (overwrite_output_dir: true starts from scratch): {}",
        output.display(),
        errors.join("; ")
    )
}

/// Refuses a config that differs from the resolved one in a key that affects the weights.
fn require_same_weights(config: &Config, resolved: &Path) -> Result<()> {
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
