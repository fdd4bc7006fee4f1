//! Scores the data sets by `seeward-score`'s loop: in windows, with progress, resuming an interrupted evaluation.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use seeward_models::process::{Signal, Stop};
use seeward_models::sample::CarriedKeys;

use super::arguments::{Job, PROGRAM, PreferenceFile};
use super::dataset::Dataset;
use super::rewards::Rewards;
use crate::arguments::EngineOptions;
use crate::bundle;
use crate::score;
use crate::terminal;

/// A bundle with its role.
pub(super) struct Scorer {
    /// One of the [`roles`](super::roles) of a bundle.
    pub(super) role: &'static str,
    pub(super) bundle: PathBuf,
    pub(super) engine: EngineOptions,
}

impl Scorer {
    /// Scores all sets. Returns the rewards of each, or the signal that interrupted.
    ///
    /// # Errors
    /// The bundle cannot be loaded, or a set cannot be scored.
    pub(super) fn score(
        &self,
        job: &Job,
        sets: &[Dataset],
        folder: &Path,
        stop: &Stop,
    ) -> Result<ControlFlow<Signal, Vec<Rewards>>> {
        let model = bundle::load(PROGRAM, &self.bundle, self.engine.on(job.device))?;
        bundle::log_offset(PROGRAM, &model);
        bundle::log_errors(PROGRAM, &model);
        let mut rewards = Vec::new();
        for (set, file) in sets.iter().zip(&job.files) {
            let scoring = self.job(job, set, file, folder);
            let run = score::score_file(&scoring, std::slice::from_ref(&model), stop)?;
            let message = format!("{} on {}: {}", self.role, set.name, run.tally);
            terminal::log(PROGRAM, message);
            if let Some(signal) = run.stopped {
                return Ok(ControlFlow::Break(signal));
            }
            rewards.push(Rewards::read(&scoring.output, &set.lines)?);
        }
        Ok(ControlFlow::Continue(rewards))
    }

    fn job(&self, job: &Job, set: &Dataset, file: &PreferenceFile, folder: &Path) -> score::Job {
        score::Job {
            model: self.bundle.clone(),
            input: set.requests.clone(),
            output: folder.join(format!("{}.{}.jsonl", self.role, set.name)),
            devices: vec![job.device],
            engine: self.engine.clone(),
            images: file.images.clone(),
            carried: CarriedKeys::default(),
            resume: job.resume,
            stats: None,
            shard: None,
        }
    }
}
