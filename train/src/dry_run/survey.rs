//! The survey of a run's data: rows, images by their headers, tokens.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::config::Config;
use crate::data::flops;
use crate::data::sampler::Sampler;
use crate::data::scan::Scan;
use crate::dry_run::contents::Contents;
use crate::dry_run::preflight::{Memory, Preflight};
use crate::dry_run::surveyor::Surveyor;
use crate::world::environment::Ranks;

/// The output of `--dry-run`.
#[derive(Debug, Serialize)]
pub struct Survey {
    #[serde(flatten)]
    training: Contents,
    /// Estimated share of the main branch's work that sharing saves in pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    work_saved: Option<f64>,
    memory: Memory,
    steps_per_epoch: usize,
    total_steps: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    eval_data: BTreeMap<String, Contents>,
    /// Problems, each with its place.
    #[serde(skip)]
    pub problems: Vec<String>,
}

impl Survey {
    /// Surveys all files that `config` names except the weights, for a run of this number of processes.
    ///
    /// # Errors
    /// A file cannot be read. Errors of single rows and images are collected as problems.
    pub fn of(config: &Config, processes: usize) -> Result<Self> {
        ensure!(processes > 0, "--world-size: expected at least 1, got 0");
        let preflight = Preflight::of(config)?;
        let preprocessors = &preflight.preprocessors;
        let mut problems = Vec::new();
        let scratch = tempfile::tempdir().context("a folder for unpacked rows")?;
        let mut contents = |path: &str| -> Result<Contents> {
            let unpacked = scratch.path().join("rows.jsonl");
            let scan = Scan::open(config, Path::new(path), &unpacked)?;
            let mut surveyor = Surveyor::new(preprocessors);
            let contents = surveyor.file(&scan)?;
            problems.append(&mut surveyor.problems);
            Ok(contents)
        };
        let training = contents(&config.dataset_path)?;
        let sets = config.eval_data.iter();
        let eval_data = sets
            .map(|(name, path)| Ok((name.clone(), contents(path)?)))
            .collect::<Result<_>>()?;
        let count = training.pairs.or(training.responses).unwrap_or(0);
        let ranks = Ranks {
            rank: 0,
            size: processes,
        };
        let sampler = Sampler::among(ranks, config, count)?;
        let batch = config.per_device_train_batch_size.min(count);
        let work_saved = flops::work_saved(&[(preflight.costs, training.load)]);
        Ok(Self {
            work_saved: work_saved.filter(|_| training.pairs.is_some()),
            memory: preflight
                .memory(&training.largest.of_batch(batch, preprocessors))
                .of_process(processes),
            training,
            steps_per_epoch: sampler.steps_per_epoch,
            total_steps: sampler.total_steps,
            eval_data,
            problems,
        })
    }
}
