//! Resuming a run: the checkpoint of its output folder from which it continues, and the folder made ready for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use seeward_models::atomic::replace_file;

use crate::config::{Config, Resume};
use crate::output::folder::{OPTIMIZER, OutputFolder, RESOLVED_CONFIG, is_of_a_run};
use crate::output::trainer_state::TrainerState;
use crate::world::ranks::World;

/// Suffix of a damaged checkpoint's name once a run has resumed without it.
const DAMAGED: &str = ".damaged";

/// The checkpoint from which a run resumes.
pub(crate) struct Resumed {
    /// Folder of the checkpoint.
    pub(crate) folder: PathBuf,
    /// The trainer's state.
    pub(crate) state: TrainerState,
    /// Whether the config asks for another number of steps than the checkpoint's, by `extend`.
    pub(crate) extended: bool,
    /// Newer, damaged checkpoints with their errors.
    damaged: Vec<(PathBuf, anyhow::Error)>,
}

impl OutputFolder {
    /// The checkpoint that all processes resume from. The one that leads chooses it: the folder's newest intact one, or, in
    /// a folder without checkpoints, the one that `config` names. `None` starts from scratch. Writes nothing.
    ///
    /// # Errors
    /// Every checkpoint is damaged; the intact one has no optimizer state, or its config differs in a key that affects
    /// the weights; or `config` asks for a folder without newer checkpoints.
    pub(crate) fn resume(&self, config: &Config, world: &World) -> Result<Option<Resumed>> {
        // A restarted process would remove the checkpoints of the run that it continues.
        let starts = config.overwrite_output_dir && !world.is_restarted();
        let found = match world.leads() && !starts {
            true => self.choose(config)?,
            false => None,
        };
        let choice = world.leaders(&Choice::of(found.as_ref()))?;
        match (found, choice.folder) {
            (None, Some(folder)) => {
                Resumed::chosen(PathBuf::from(folder), choice.extended).map(Some)
            }
            (found, _) => Ok(found),
        }
    }

    fn choose(&self, config: &Config) -> Result<Option<Resumed>> {
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
        let resolved =
            |resumed: &Resumed| resumed.folder.starts_with(self.path()) && !resumed.extended;
        if !resumed.is_some_and(resolved) {
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

/// The checkpoint that the leading process has chosen.
#[derive(Clone, PartialEq, Message)]
struct Choice {
    #[prost(string, optional, tag = "1")]
    folder: Option<String>,
    #[prost(bool, tag = "2")]
    extended: bool,
}

impl Choice {
    fn of(resumed: Option<&Resumed>) -> Self {
        Self {
            folder: resumed.map(|resumed| resumed.folder.to_string_lossy().into_owned()),
            extended: resumed.is_some_and(|resumed| resumed.extended),
        }
    }
}

impl Resumed {
    /// The checkpoint that the leading process has verified.
    fn chosen(folder: PathBuf, extended: bool) -> Result<Self> {
        let state = TrainerState::read(&folder)
            .context("all processes need the output_dir of rank 0 under the same path")?;
        Ok(Self {
            folder,
            state,
            extended,
            damaged: Vec::new(),
        })
    }

    fn new(config: &Config, folder: PathBuf, state: TrainerState) -> Result<Self> {
        ensure!(
            state.has_file(OPTIMIZER),
            "{}: no run can resume from it, as it has no optimizer state (save_only_model): start from it with \
             model_name_or_path in another output_dir, or set overwrite_output_dir: true",
            folder.display()
        );
        let extended = is_extended(config, &folder.join(RESOLVED_CONFIG))?;
        Ok(Self {
            folder,
            state,
            extended,
            damaged: Vec::new(),
        })
    }

    /// Refuses rows that are not those of the run so far. Returns a notice if that is not known.
    ///
    /// # Errors
    /// The rows of `dataset_path`, of which `hash` is the sha256, have changed.
    pub(crate) fn check_rows(&self, dataset_path: &str, hash: &str) -> Result<Option<String>> {
        let folder = self.folder.display();
        let Some(before) = &self.state.rows else {
            return Ok(Some(format!(
                "{folder}: saved by version 0.1.0 without a hash of the rows: whether they have changed is not checked"
            )));
        };
        ensure!(
            before == hash,
            "{dataset_path}: the rows have changed since {folder} was saved: restore them, choose another output_dir (and \
             model_name_or_path: {folder} to start from its weights), or overwrite_output_dir: true"
        );
        Ok(None)
    }

    /// Refuses another number of rows per step. Returns a notice if they are split into other batches.
    ///
    /// # Errors
    /// A step of this run has `rows` rows of all processes, and one of the run so far had another number.
    pub(crate) fn check_batches(&self, config: &Config, rows: usize) -> Result<Option<String>> {
        let folder = self.folder.display();
        let (before, _) = Config::load(self.folder.join(RESOLVED_CONFIG), &[])?;
        let (batch, now) = (
            before.per_device_train_batch_size,
            config.per_device_train_batch_size,
        );
        // A run that does not say so had one process.
        let alone = batch * before.gradient_accumulation_steps;
        let per_step = self.state.rows_per_step.unwrap_or(alone);
        ensure!(
            rows == per_step,
            "{folder}: a step of the run so far has {per_step} rows, now {rows}: choose per_device_train_batch_size × \
             gradient_accumulation_steps × processes = {per_step}, another output_dir, or overwrite_output_dir: true"
        );
        ensure!(
            batch == now || !config.dataloader_drop_last,
            "{folder}: the run was started with per_device_train_batch_size: {batch}, by which dataloader_drop_last skips rows"
        );
        Ok((batch != now).then(|| {
            format!(
                "{folder}: batches of {batch} rows so far, of {now} from here: the same rows per step, but other padding, so \
                 results are equal only up to rounding"
            )
        }))
    }

    /// Checks that an extension takes steps.
    ///
    /// # Errors
    /// Its `total` is not above the steps taken.
    pub(crate) fn check_extension(&self, total: usize) -> Result<()> {
        let step = self.state.progress.step;
        ensure!(
            !self.extended || total > step,
            "extend: {} has taken {step} steps: expected more of them, got {total}",
            self.folder.display()
        );
        Ok(())
    }

    /// A notice of what the run does with the checkpoint, out of `total` steps.
    pub(crate) fn notice(&self, total: usize) -> String {
        let (folder, step) = (self.folder.display(), self.state.progress.step);
        match self.extended {
            true => format!(
                "extending {folder} from {step} to {total} steps: their learning rates follow the schedule of {total} steps, so \
                 this is not the run that takes {total} steps without interruption"
            ),
            false if step == total => format!("{folder}: the run is complete"),
            false => format!("resuming from {folder}"),
        }
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

/// Keys of the number of steps, which an extension may change.
const LENGTH: [&str; 2] = ["max_steps", "num_train_epochs"];

/// Refuses a config that differs from the resolved one in a key that affects the weights. Returns whether it extends the
/// run.
fn is_extended(config: &Config, resolved: &Path) -> Result<bool> {
    let (before, _) = Config::load(resolved, &[])?;
    let different = config.differences(&before);
    let only_length = different.iter().all(|key| LENGTH.contains(key));
    if different.is_empty() || (only_length && config.extend) {
        return Ok(!different.is_empty());
    }
    let hint = match only_length {
        true => "extend: true takes more steps; or ",
        false => "",
    };
    bail!(
        "{}: the run was started with another {}: {hint}choose another output_dir, or overwrite_output_dir: true",
        resolved.display(),
        different.join(", ")
    );
}
