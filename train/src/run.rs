//! The training loop.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use seeward_models::folder::replace_file;
use serde_json::{Map, Value};
use tch::Device;

use crate::batch::View;
use crate::config::{Algorithm, Config, SaveStrategy};
use crate::data::Rows;
use crate::loader::{self, Batch, Views};
use crate::plan::Plan;
use crate::probes::Probes;
use crate::report::Report;
use crate::saving::{self, Saved};
use crate::schedule::Schedule;
use crate::setup::{Branches, Start};
use crate::trainer::{Measures, Rates, Trainer};

/// Trains as `config` says and leaves `checkpoint-last` in its output folder.
///
/// # Errors
/// Anything wrong with the config's files, with a row (its place is named) or with the numbers (not finite).
pub fn run(config: &Config, device: Device) -> Result<()> {
    let output = Path::new(&config.output_dir);
    let resumed = open_output(config, output)?;
    let rows = read_rows(config, &config.dataset_path)?;
    let evaluations = evaluation_sets(config)?;
    let start = Start::load(config, resumed.as_deref(), device)?;
    let mut trainer = Trainer::new(config, start.models, start.parameters);
    let done = resumed
        .map(|folder| saving::restore(&mut trainer, config, &folder))
        .transpose()?
        .unwrap_or(0);
    let plan = Plan::new(config, rows.count());
    let schedule = Schedule::new(config, plan.total_steps);
    let report = Report::open(output)?;
    start.notices.iter().for_each(|notice| report.say(notice));
    let views = &start.views;
    let tokenizer_files = &start.tokenizer_files;
    let probes = probes(
        config,
        evaluations.first().map_or(&rows, |(_, rows)| rows),
        views,
    )?;
    let mut run = Run {
        config,
        plan,
        schedule,
        rows: &rows,
        evaluations,
        views,
        tokenizer_files,
        probes,
        report,
    };
    if done == 0 {
        run.warm_up(&mut trainer)?;
    }
    run.train(&mut trainer, done)
}

struct Run<'a> {
    config: &'a Config,
    plan: Plan,
    schedule: Schedule,
    rows: &'a Rows,
    evaluations: Vec<(String, Rows)>,
    views: &'a Branches<View>,
    tokenizer_files: &'a [PathBuf],
    probes: Probes,
    report: Report,
}

impl Run<'_> {
    /// The joint steps, from step `done` on.
    fn train(&mut self, trainer: &mut Trainer, done: usize) -> Result<()> {
        let (plan, total) = (self.plan.clone(), self.plan.total_steps);
        let views = Views {
            main: Some(&self.views.main),
            text: self.views.text.as_ref(),
        };
        let rows = self.rows;
        self.report.phase("train", total, done);
        std::thread::scope(|scope| {
            let batches = loader::spawn(
                scope,
                rows,
                (done..total).map(move |step| (views, plan.step(step))),
            );
            for step in done..total {
                let rates = self.rates(step);
                let (measures, count) = next(trainer, &batches, rates)?;
                self.report.step(&measures, count);
                self.log(step + 1, rates.main, &measures)?;
                self.evaluate(trainer, views, step + 1)?;
                self.save(trainer, step + 1)?;
            }
            self.report.finish();
            Ok(())
        })
    }

    /// The text-only branch's own steps: it learns the shortcut before the main branch can.
    fn warm_up(&mut self, trainer: &mut Trainer) -> Result<()> {
        let (plan, steps) = (self.plan.clone(), self.config.text_branch_warmup_steps);
        let views = Views {
            main: None,
            text: self.views.text.as_ref(),
        };
        if views.text.is_none() || steps == 0 {
            return Ok(());
        }
        self.report.phase("text-only warm-up", steps, 0);
        std::thread::scope(|scope| {
            let batches = loader::spawn(
                scope,
                self.rows,
                (0..steps).map(move |step| (views, plan.warmup_step(step))),
            );
            for step in 0..steps {
                let text = self.warmup_rate(step);
                let (measures, count) = next(trainer, &batches, Rates { main: 0.0, text })?;
                self.report.step(&measures, count);
            }
            Ok(())
        })
    }

    /// Its ramp is as long as the joint one, within its own steps.
    fn warmup_rate(&self, step: usize) -> f64 {
        let ramp = self
            .schedule
            .warmup
            .min(self.config.text_branch_warmup_steps);
        self.schedule.peak
            * if step < ramp {
                step as f64 / ramp as f64
            } else {
                1.0
            }
    }

    /// A warmed-up text-only branch stays at the peak until the joint ramp is over.
    fn rates(&self, step: usize) -> Rates {
        let main = self.schedule.rate(step);
        let warmed = self.config.text_branch_warmup_steps > 0 && step < self.schedule.warmup;
        Rates {
            main,
            text: if warmed { self.schedule.peak } else { main },
        }
    }

    fn log(&mut self, step: usize, rate: f64, measures: &Measures) -> Result<()> {
        let first = self.config.logging_first_step && step == 1;
        if first || self.due(step, self.config.logging_steps) {
            let epoch = step as f64 / self.plan.steps_per_epoch as f64;
            self.report.log(step, epoch, rate, measures)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, trainer: &Trainer, views: Views, step: usize) -> Result<()> {
        let every = self.config.eval_steps.unwrap_or(self.config.logging_steps);
        if self.evaluations.is_empty() || !self.due(step, every) {
            return Ok(());
        }
        let mut results = Map::new();
        for (name, rows) in &self.evaluations {
            let numbers: Vec<usize> = (0..rows.count()).collect();
            let batches = numbers.chunks(self.config.per_device_eval_batch_size);
            let prepared = batches.map(|numbers| Ok(loader::prepare(rows, views, numbers)?));
            results.insert(
                name.clone(),
                serde_json::to_value(trainer.evaluate(prepared)?)?,
            );
        }
        self.report.evaluation(step, Value::Object(results))
    }

    fn save(&mut self, trainer: &Trainer, step: usize) -> Result<()> {
        let output = Path::new(&self.config.output_dir);
        let saved = Saved {
            trainer,
            config: self.config,
            output,
            tokenizer_files: self.tokenizer_files,
            probes: &self.probes,
        };
        let due = match self.config.save_strategy {
            SaveStrategy::No => false,
            SaveStrategy::Steps => self.due(step, self.config.save_steps),
            SaveStrategy::Epoch => self.due(step, self.plan.steps_per_epoch),
        };
        if step == self.plan.total_steps {
            saving::save(&saved, saving::LAST, step)
        } else if due {
            saving::save(&saved, &saving::name(step), step)?;
            self.config
                .save_total_limit
                .map_or(Ok(()), |keep| saving::prune(output, keep))
        } else {
            Ok(())
        }
    }

    /// Every so many steps, and after the last.
    fn due(&self, step: usize, every: usize) -> bool {
        step == self.plan.total_steps || (every > 0 && step.is_multiple_of(every))
    }
}

/// A model without a reward head has none.
fn probes(config: &Config, rows: &Rows, views: &Branches<View>) -> Result<Probes> {
    match rows {
        Rows::Pairs(pairs) if config.algorithm != Algorithm::Sft => Probes::choose(pairs, views),
        _ => Ok(Probes::none()),
    }
}

/// Takes the next step with what the loader has prepared.
fn next(
    trainer: &mut Trainer,
    batches: &Receiver<seeward_models::Result<Vec<Batch>>>,
    rates: Rates,
) -> Result<(Measures, usize)> {
    let batches = batches.recv().context("the loader stopped")??;
    let measures = trainer.step(&batches, rates)?;
    Ok((measures, batches.iter().map(|batch| batch.rows).sum()))
}

/// Creates the output folder, or finds the checkpoint that it goes on from.
fn open_output(config: &Config, output: &Path) -> Result<Option<PathBuf>> {
    if config.overwrite_output_dir && output.exists() {
        fs::remove_dir_all(output).with_context(|| output.display().to_string())?;
    }
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let resumed = saving::newest(output)?;
    if resumed.is_none() {
        replace_file(
            &output.join(saving::RESOLVED_CONFIG),
            config.resolved()?.as_bytes(),
        )?;
    }
    Ok(resumed)
}

fn read_rows(config: &Config, path: &str) -> Result<Rows> {
    let root = config.image_root.as_deref().map(Path::new);
    let path = Path::new(path);
    if config.algorithm == Algorithm::Sft {
        Rows::sft(path, root)
    } else {
        Rows::pairs(path, root)
    }
}

fn evaluation_sets(config: &Config) -> Result<Vec<(String, Rows)>> {
    config
        .eval_data
        .iter()
        .map(|(name, file)| Ok((name.clone(), read_rows(config, file)?)))
        .collect()
}
