//! Checkpoint folders: the model in Hugging Face's layout, and the trainer's state for resuming.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::atomic::{replace_file, replace_folder};
use seeward_models::checkpoint::{self, Names, TensorData, VALUE_HEAD_FILE, WEIGHTS_FILE};
use seeward_models::checkpoint::{is_value_head, write_tensors};
use seeward_models::config::Config as ModelConfig;
use seeward_models::kinds::Layout;
use seeward_models::net;
use serde_json::{Value, json};

use crate::config::{Algorithm, Config};
use crate::model::adapter;
use crate::output::disk_space;
use crate::output::folder::{OPTIMIZER, RESOLVED_CONFIG};
use crate::output::probes::Probes;
use crate::output::resume::Resumed;
use crate::output::trainer_state::{Progress, TrainerState};
use crate::step::best::Best;
use crate::step::measures::Measures;
use crate::step::shard::{self, Moments};
use crate::step::trainer::Trainer;

/// Upper limit in bytes for small files, headers and the file system's metadata.
const SLACK: u64 = 1 << 20;

/// The parts of a checkpoint.
pub(crate) struct Checkpoint<'a> {
    /// Source of weights and optimizer state.
    pub(crate) trainer: &'a Trainer,
    /// The run's config.
    pub(crate) config: &'a Config,
    /// The tokenizer's files, which are copied.
    pub(crate) tokenizer_files: &'a [PathBuf],
    /// Rows whose rewards are computed with the saved weights.
    pub(crate) probes: &'a Probes,
    /// sha256 of the training rows.
    pub(crate) rows: &'a str,
    /// Rows of a complete step, of all processes together.
    pub(crate) rows_per_step: usize,
    /// Numbers of the training rows that were skipped so far.
    pub(crate) skipped_rows: &'a BTreeSet<usize>,
    /// Measures of the saved weights on the first evaluation set, if they were evaluated.
    pub(crate) measured: Option<&'a Measures>,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
}

impl Checkpoint<'_> {
    /// Writes the checkpoint `name` in `output` with the optimizer's `moments`, atomically.
    ///
    /// # Errors
    /// Not enough disk space, which is checked before anything is written, or an I/O error.
    pub(crate) fn write(
        &self,
        output: &Path,
        name: &str,
        progress: Progress,
        moments: &Moments,
    ) -> Result<()> {
        self.require_space(output, name)?;
        replace_folder(&output.join(name), |folder| {
            self.write_model(folder)?;
            if !self.config.save_only_model {
                write_tensors(&folder.join(OPTIMIZER), self.optimizer_state(moments))?;
            }
            let mut state = TrainerState::new(progress, self.trainer.optimizer.steps());
            (state.best, state.skipped_rows) = (self.best, self.skipped_rows.clone());
            state.rows = Some(self.rows.to_owned());
            state.rows_per_step = Some(self.rows_per_step);
            state.write(folder)
        })
    }

    /// Checks that the disk of `output` has enough space for the checkpoint at its current size.
    ///
    /// # Errors
    /// Not enough disk space; the message has the bytes needed and available.
    pub(crate) fn require_space(&self, output: &Path, name: &str) -> Result<()> {
        disk_space::require(output, name, self.bytes()?)
    }

    /// The optimizer's moments, and fp32 master weights of weights that are saved in bf16.
    fn optimizer_state<'b>(&'b self, moments: &'b Moments) -> Vec<TensorData<'b>> {
        let mut tensors = shard::data(moments);
        tensors.extend(self.trainer.parameters.masters());
        tensors
    }

    /// Upper limit for the checkpoint's size in bytes.
    fn bytes(&self) -> Result<u64> {
        let size = |tensors: &[TensorData]| tensors.iter().map(|t| t.size() as u64).sum::<u64>();
        let adapter = |model| size(&adapter::tensors(self.config, model));
        let adapters: u64 = self.trainer.models.each().map(adapter).sum();
        let state = match self.config.save_only_model {
            true => 0,
            false => self.trainer.optimizer.bytes() + size(&self.trainer.parameters.masters()),
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
        replace_file(
            &folder.join("config.json"),
            (serde_json::to_string_pretty(&self.model_config())? + "\n").as_bytes(),
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
        let (tensors, names) = (self.trainer.parameters.data(), self.names());
        let stored = tensors.into_iter().flat_map(|data| data.stored(&names));
        let (head, model): (Vec<_>, Vec<_>) = stored.partition(|data| is_value_head(&data.name));
        if !head.is_empty() {
            write_tensors(&folder.join(VALUE_HEAD_FILE), head)?;
        }
        Ok(write_tensors(&folder.join(WEIGHTS_FILE), model)?)
    }

    /// The keys that name the model; one without score head keeps those that it has.
    fn class(&self, model: &ModelConfig) -> Vec<(&'static str, Value)> {
        match (self.config.algorithm, model.layout) {
            (Algorithm::Sft, Layout::Internvl | Layout::Text) => Vec::new(),
            _ => model.reward_class(),
        }
    }

    /// The names of the tensors in the layout that the branches came in.
    fn names(&self) -> Names {
        let models = &self.trainer.models;
        let main = &models.main.config;
        net::names_of(main, models.text.as_ref().map_or(main, |text| &text.config))
    }

    /// The content of `config.json`.
    fn model_config(&self) -> Value {
        let models = &self.trainer.models;
        let mut model = models.main.config.json().clone();
        if let Some(text) = &models.text {
            let text = text.config.json();
            if *text != model {
                model["bias_reward_config"] = text.clone();
            }
        }
        let [main, text] = self.measured.map_or([None, None], Measures::reward_scales);
        for (key, scale) in [("reward_scale", main), ("text_only_reward_scale", text)] {
            if let Some(scale) = scale {
                model["seeward"][key] = json!(scale);
            }
        }
        for (key, value) in self.class(&models.main.config) {
            model[key] = value;
        }
        self.trainer.parameters.precision().declare(&mut model);
        model
    }
}

/// Restores the trainer's state from a checkpoint.
///
/// # Errors
/// A tensor is missing or has the wrong shape.
pub(crate) fn restore(trainer: &mut Trainer, resumed: &Resumed) -> Result<()> {
    let tensors = checkpoint::Checkpoint::open_file(&resumed.folder.join(OPTIMIZER))?;
    let progress = resumed.state.progress;
    trainer.taken = progress.warmup + progress.step;
    trainer.parameters.restore_masters(&tensors)?;
    trainer
        .optimizer
        .restore(&trainer.parameters, &tensors, &resumed.state.updates)
}
