//! Rewards for the sets' responses, by way of `seeward-score`'s own loop: in windows, with progress, and going on where
//! an earlier evaluation stopped.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::sample::CarriedKeys;
use seeward_runtime::{Options, RewardModel};
use serde::Deserialize;

use super::arguments::{DataSet, Job};
use super::set::{Place, Set};
use super::{say, say_fallback_nodes};
use crate::score::{self, errors_path};
use crate::stop::{Signal, Stop};

/// A bundle in its part.
pub(super) struct Scorer {
    /// `model`, `text_only` or `compare`.
    pub(super) role: &'static str,
    pub(super) bundle: PathBuf,
    pub(super) options: Options,
}

/// The rewards of a set's responses, for those scoring rows that have them.
#[derive(Debug, Default)]
pub(super) struct Rewards {
    rows: Vec<Option<Vec<f32>>>,
    /// Lines of the set whose rows failed, and why.
    pub(super) failed: Vec<(u64, String)>,
}

/// A line that the scoring of `requests` wrote.
#[derive(Deserialize)]
struct ScoreLine {
    row: usize,
    score: f32,
}

#[derive(Deserialize)]
struct ErrorLine {
    line: usize,
    error: String,
}

impl Scorer {
    /// Scores all sets: for each its rewards, or the signal that cut it off.
    pub(super) fn score(
        &self,
        job: &Job,
        sets: &[Set],
        folder: &Path,
        stop: &Stop,
    ) -> Result<ControlFlow<Signal, Vec<Rewards>>> {
        let context = || format!("bundle {}", self.bundle.display());
        let model = RewardModel::load(&self.bundle, self.options.clone()).with_context(context)?;
        say_fallback_nodes(&model);
        let mut rewards = Vec::new();
        for (set, data) in sets.iter().zip(&job.sets) {
            let scoring = self.job(job, set, data, folder);
            let run = score::score_file(&scoring, std::slice::from_ref(&model), stop)?;
            say(format_args!("{} on {}: {}", self.role, set.name, run.tally));
            if let Some(signal) = run.stopped {
                return Ok(ControlFlow::Break(signal));
            }
            rewards.push(Rewards::read(&scoring.output, set)?);
        }
        Ok(ControlFlow::Continue(rewards))
    }

    fn job(&self, job: &Job, set: &Set, data: &DataSet, folder: &Path) -> score::Job {
        score::Job {
            model: self.bundle.clone(),
            input: set.requests.clone(),
            output: folder.join(format!("{}.{}.jsonl", self.role, set.name)),
            devices: vec![self.options.device],
            options: self.options.clone(),
            images: data.images.clone(),
            carried: CarriedKeys::default(),
            resume: job.resume,
            stats: None,
        }
    }
}

impl Rewards {
    fn read(scores: &Path, set: &Set) -> Result<Self> {
        let mut rewards = Self {
            rows: vec![None; set.lines.len()],
            failed: Vec::new(),
        };
        for line in lines::<ScoreLine>(scores)? {
            let line = line?;
            let row = rewards
                .rows
                .get_mut(line.row)
                .with_context(|| scores.display().to_string())?;
            row.get_or_insert_default().push(line.score);
        }
        for line in lines::<ErrorLine>(&errors_path(scores))? {
            let line = line?;
            rewards.failed.push((set.lines[line.line - 1], line.error));
        }
        Ok(rewards)
    }

    pub(super) fn of(&self, place: Place) -> Option<f64> {
        let row = self.rows[place.row].as_ref()?;
        row.get(place.response).copied().map(f64::from)
    }
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<impl Iterator<Item = Result<T>>> {
    let context = || path.display().to_string();
    let file = File::open(path).with_context(context)?;
    let parse = move |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    Ok(BufReader::new(file).lines().map(parse))
}
