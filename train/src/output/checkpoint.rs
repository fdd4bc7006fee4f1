//! Checkpoint folders: the model in the Hugging Face layout, and the trainer's state for resuming.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::atomic::{replace_file, replace_folder};
use seeward_models::checkpoint::{self, TensorData, WEIGHTS_FILE, write_tensors};
use serde_json::json;

use crate::config::Config;
use crate::model::adapter;
use crate::output::disk_space;
use crate::output::folder::{OPTIMIZER, RESOLVED_CONFIG, Resumed};
use crate::output::probes::Probes;
use crate::output::trainer_state::{Progress, TrainerState};
use crate::step::best::Best;
use crate::step::measures::Measures;
use crate::step::trainer::Trainer;

/// What the small files, the headers and the file system's own bookkeeping take at most.
const SLACK: u64 = 1 << 20;

/// What a checkpoint is made of.
pub(crate) struct Checkpoint<'a> {
    /// Weights and optimizer.
    pub(crate) trainer: &'a Trainer,
    /// The run's config.
    pub(crate) config: &'a Config,
    /// The tokenizer's files, copied along.
    pub(crate) tokenizer_files: &'a [PathBuf],
    /// Rows whose rewards are measured on the saved weights.
    pub(crate) probes: &'a Probes,
    /// Numbers of the rows that were met so far and skipped.
    pub(crate) skipped_rows: &'a BTreeSet<usize>,
    /// What was measured on the evaluation set with the saved weights, if anything was.
    pub(crate) measured: Option<&'a Measures>,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
}

impl Checkpoint<'_> {
    /// Writes the checkpoint `name` in `output`: complete or absent.
    ///
    /// # Errors
    /// No room on the disk, which is found out before anything is written, or a disk that fails.
    pub(crate) fn write(&self, output: &Path, name: &str, progress: Progress) -> Result<()> {
        self.require_room(output, name)?;
        replace_folder(&output.join(name), |folder| {
            self.write_model(folder)?;
            if !self.config.save_only_model {
                write_tensors(&folder.join(OPTIMIZER), self.optimizer_state())?;
            }
            let mut state = TrainerState::new(progress, self.trainer.optimizer.steps());
            (state.best, state.skipped_rows) = (self.best, self.skipped_rows.clone());
            state.write(folder)
        })
    }

    /// Refuses where the disk of `output` has no room for the checkpoint as it is now.
    ///
    /// # Errors
    /// Bytes needed and available are named.
    pub(crate) fn require_room(&self, output: &Path, name: &str) -> Result<()> {
        disk_space::require(output, name, self.bytes()?)
    }

    /// The optimizer's moments, and the masters of weights that are saved in a lower precision.
    fn optimizer_state(&self) -> Vec<TensorData<'_>> {
        let mut tensors = self.trainer.optimizer.data();
        tensors.extend(self.trainer.parameters.masters());
        tensors
    }

    /// The bytes that the checkpoint takes at most.
    fn bytes(&self) -> Result<u64> {
        let size = |tensors: &[TensorData]| tensors.iter().map(|t| t.size() as u64).sum::<u64>();
        let adapter = |model| size(&adapter::tensors(self.config, model));
        let adapters: u64 = self.trainer.models.each().map(adapter).sum();
        let state = match self.config.save_only_model {
            true => 0,
            false => size(&self.optimizer_state()),
        };
        let tensors = size(&self.trainer.parameters.data()) + state + adapters;
        let file = |path: &PathBuf| {
            let length = fs::metadata(path).map(|metadata| metadata.len());
            length.with_context(|| path.display().to_string())
        };
        let files: u64 = self.tokenizer_files.iter().map(file).sum::<Result<_>>()?;
        Ok(tensors + files + self.probes.bytes() + SLACK)
    }

    fn write_model(&self, folder: &Path) -> Result<()> {
        let models = &self.trainer.models;
        self.probes.write(models, folder)?;
        let mut model = models.main.config.json().clone();
        if let Some(text) = &models.text {
            let own = text.config.json();
            if *own != model {
                model["bias_reward_config"] = own.clone();
            }
        }
        let [main, text] = self.measured.map_or([None, None], Measures::reward_scales);
        for (key, scale) in [("reward_scale", main), ("text_only_reward_scale", text)] {
            if let Some(scale) = scale {
                model["seeward"][key] = json!(scale);
            }
        }
        model["architectures"] = json!(["InternVLRewardModel"]);
        self.trainer.parameters.precision().declare(&mut model);
        replace_file(
            &folder.join("config.json"),
            (serde_json::to_string_pretty(&model)? + "\n").as_bytes(),
        )?;
        replace_file(
            &folder.join(RESOLVED_CONFIG),
            self.config.resolved()?.as_bytes(),
        )?;
        for file in self.tokenizer_files {
            let name = file
                .file_name()
                .with_context(|| file.display().to_string())?;
            fs::copy(file, folder.join(name)).with_context(|| file.display().to_string())?;
        }
        for model in models.each() {
            adapter::write(folder, self.config, model)?;
        }
        Ok(write_tensors(
            &folder.join(WEIGHTS_FILE),
            self.trainer.parameters.data(),
        )?)
    }
}

/// Puts a checkpoint's optimizer state back.
///
/// # Errors
/// A tensor is missing.
pub(crate) fn restore(trainer: &mut Trainer, resumed: &Resumed) -> Result<()> {
    let tensors = checkpoint::Checkpoint::open_file(&resumed.folder.join(OPTIMIZER))?;
    let done = resumed.state.progress;
    trainer.taken = done.warmup + done.step;
    trainer.parameters.restore_masters(&tensors)?;
    let device = trainer.models.main.device;
    Ok(trainer
        .optimizer
        .restore(&tensors, &resumed.state.updates, device)?)
}
