//! The training loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use tch::Device;

use crate::config::{Algorithm, Config, EvalStrategy, SaveStrategy};
use crate::data::lengths;
use crate::data::loader::{self, Batch, Prepared, Preprocessors};
use crate::data::preprocess::Preprocessor;
use crate::data::rows::{self, Read, Rows};
use crate::data::sampler::Sampler;
use crate::data::skipped_rows::SkippedRows;
use crate::model::branches::Branches;
use crate::model::setup::Start;
use crate::output::checkpoint::{self, Checkpoint};
use crate::output::folder::{self, OutputFolder};
use crate::output::probes::Probes;
use crate::output::trainer_state::Progress;
use crate::report::display::Report;
use crate::step::best::{Best, Criterion};
use crate::step::measures::Measures;
use crate::step::schedule::Schedule;
use crate::step::trainer::{Rates, Trainer};
use crate::stop::{Signal, Stop};

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are taken, and `checkpoint-last` stands.
    Complete,
    /// The signal asked for it; a checkpoint of the last step taken stands.
    Stopped(Signal),
}

/// Trains as `config` says and leaves `checkpoint-last` in its output folder, or a checkpoint to go on from where
/// `stop` asks for it.
///
/// # Errors
/// Anything wrong with the config's files, with a row (its place is named), with the numbers (not finite), or the disk.
pub fn run(config: &Config, device: Device, stop: &Stop) -> Result<Ending> {
    let criterion = Criterion::of(config)?;
    let output = OutputFolder::open(Path::new(&config.output_dir))?;
    let resumed = output.resume(config)?;
    let folder = resumed.as_ref().map(|resumed| resumed.folder.as_path());
    let progress = resumed.as_ref().map(|resumed| resumed.state.progress);
    let mut notices = Vec::new();
    let rows = read_rows(config, &config.dataset_path, &mut notices)?;
    let evaluations = evaluation_sets(config, &mut notices)?;
    let start = Start::load(config, folder, device)?;
    let mut trainer = Trainer::new(config, start.models, start.parameters);
    if let Some(resumed) = &resumed {
        checkpoint::restore(&mut trainer, resumed)?;
    }
    let preprocessors = &start.preprocessors;
    let mut sampler = Sampler::new(config, rows.count())?;
    if config.group_by_length {
        sampler = sampler.grouped(lengths::estimate(&rows, &preprocessors.main)?);
    }
    let probe_rows = evaluations.first().map_or(&rows, |(_, rows)| rows);
    let probes = probes(config, probe_rows, preprocessors)?;
    notices.extend(start.notices);
    notices.extend(output.begin(config, resumed.as_ref(), &start.tokenizer_files)?);
    // Probes are made of pixels, so that they come first.
    for model in trainer.models.each() {
        let folder = output.path().join(folder::FEATURES);
        model.keep_on_disk(&folder, config.vision_cache_disk)?;
    }
    let step = progress.unwrap_or_default().step;
    notices.extend(folder.map(|folder| match step == sampler.total_steps {
        true => format!("{}: the run is complete", folder.display()),
        false => format!("going on from {}", folder.display()),
    }));
    let best = resumed.as_ref().and_then(|resumed| resumed.state.best);
    let skipped = resumed
        .as_ref()
        .map(|resumed| resumed.state.skipped_rows.clone());
    let mut run = Run {
        skipped: SkippedRows::new(&rows, config.max_bad_fraction, skipped.unwrap_or_default()),
        told: BTreeSet::new(),
        config,
        schedule: Schedule::new(config, sampler.total_steps),
        sampler,
        rows: &rows,
        evaluations,
        preprocessors,
        tokenizer_files: start.tokenizer_files,
        probes,
        report: Report::open(output.path(), config.tensorboard(), step, device)?,
        output,
        stop,
        saved: progress
            .filter(|_| folder.is_some_and(|folder| folder.starts_with(&config.output_dir))),
        measured: None,
        criterion,
        best,
    };
    notices.iter().for_each(|notice| run.report.say(notice));
    run.go(&mut trainer, progress.unwrap_or_default())
}

struct Run<'a> {
    config: &'a Config,
    sampler: Sampler,
    schedule: Schedule,
    rows: &'a Rows,
    evaluations: Vec<(String, Rows)>,
    preprocessors: &'a Branches<Preprocessor>,
    tokenizer_files: Vec<PathBuf>,
    probes: Probes,
    report: Report,
    /// The training rows that are left out.
    skipped: SkippedRows,
    /// What was said of the rows of evaluation sets.
    told: BTreeSet<String>,
    output: OutputFolder,
    stop: &'a Stop,
    /// What the newest checkpoint holds.
    saved: Option<Progress>,
    /// The optimizer steps taken before the last evaluation, and what the first of its sets gave.
    measured: Option<(usize, Measures)>,
    /// What decides which weights are best, if anything does.
    criterion: Option<Criterion>,
    best: Option<Best>,
}

impl Run<'_> {
    /// Everything behind `progress`.
    fn go(&mut self, trainer: &mut Trainer, progress: Progress) -> Result<Ending> {
        if progress.step < self.sampler.total_steps {
            // Better now than after hours; the optimizer's moments, which come with the first step, not counted.
            self.checkpoint(trainer)
                .require_room(self.output.path(), folder::LAST)?;
        }
        let stopped = match progress.step {
            0 => self.warm_up(trainer, progress.warmup)?,
            _ => None,
        };
        let stopped = match stopped {
            Some(signal) => Some(signal),
            None => self.train(trainer, progress.step)?,
        };
        self.report.finish();
        if stopped.is_none() {
            self.output.tidy()?;
            self.say_best();
        }
        Ok(stopped.map_or(Ending::Complete, Ending::Stopped))
    }

    /// The joint steps, from step `done` on; or up to the signal that stops them.
    fn train(&mut self, trainer: &mut Trainer, done: usize) -> Result<Option<Signal>> {
        let (sampler, total) = (self.sampler.clone(), self.sampler.total_steps);
        let preprocessors = Preprocessors {
            main: Some(&self.preprocessors.main),
            text: self.preprocessors.text.as_ref(),
        };
        let (rows, warmup) = (self.rows, self.warmup_steps());
        self.report.phase("train", total, done);
        std::thread::scope(|scope| {
            let steps = sampler
                .steps(done..total)
                .map(move |step| (preprocessors, step));
            let mut batches = loader::spawn(scope, rows, steps);
            for step in done..total {
                let progress = |step| Progress { warmup, step };
                if self.gives_up() {
                    return self.end_early(trainer, progress(step)).map(|()| None);
                }
                if let Some(signal) = self.stopped(trainer, progress(step))? {
                    return Ok(Some(signal));
                }
                let rates = self.rates(step);
                let measures = self
                    .next(trainer, &mut batches, rates)
                    .with_context(|| format!("step {}", step + 1))?;
                if let Some(measures) = measures {
                    self.log(step + 1, rates.main, &measures)?;
                }
                self.evaluate(trainer, preprocessors, progress(step + 1))?;
                self.save(trainer, progress(step + 1))?;
            }
            Ok(None)
        })
    }

    /// The text-only branch's own steps from step `done` on: it learns the shortcut before the main branch can.
    fn warm_up(&mut self, trainer: &mut Trainer, done: usize) -> Result<Option<Signal>> {
        let (sampler, steps) = (self.sampler.clone(), self.warmup_steps());
        let preprocessors = Preprocessors {
            main: None,
            text: self.preprocessors.text.as_ref(),
        };
        if done == steps {
            return Ok(None);
        }
        self.report.phase("text-only warm-up", steps, done);
        std::thread::scope(|scope| {
            let prepared = sampler
                .warmup_steps(done..steps)
                .map(move |step| (preprocessors, step));
            let mut batches = loader::spawn(scope, self.rows, prepared);
            for step in done..steps {
                let progress = |warmup| Progress { warmup, step: 0 };
                if let Some(signal) = self.stopped(trainer, progress(step))? {
                    return Ok(Some(signal));
                }
                let text = self.warmup_rate(step);
                self.next(trainer, &mut batches, Rates { main: 0.0, text })
                    .with_context(|| format!("text-only warm-up, step {}", step + 1))?;
                self.save(trainer, progress(step + 1))?;
            }
            Ok(None)
        })
    }

    fn warmup_steps(&self) -> usize {
        let steps = self.config.text_branch_warmup_steps;
        self.preprocessors.text.as_ref().map_or(0, |_| steps)
    }

    /// Takes the next step with what the loader has prepared. One whose rows are all left out passes without an update,
    /// and without measures.
    fn next(
        &mut self,
        trainer: &mut Trainer,
        prepared: &mut Prepared,
        rates: Rates,
    ) -> Result<Option<Measures>> {
        let asked = Instant::now();
        let batches = prepared.step()?;
        self.report.waited(asked.elapsed());
        let news = self.skipped.add(&batches)?;
        news.iter().for_each(|notice| self.report.say(notice));
        let rows = batches.iter().map(Batch::rows).sum();
        if rows == 0 {
            trainer.taken += 1;
            return Ok(None);
        }
        let measures = trainer.step(&batches, rates)?;
        self.report.step(&measures, rows);
        Ok(Some(measures))
    }

    /// The signal that asked the run to stop, if one did; `progress` is saved then.
    fn stopped(&mut self, trainer: &Trainer, progress: Progress) -> Result<Option<Signal>> {
        let Some(signal) = self.stop.asked() else {
            return Ok(None);
        };
        if progress > self.saved.unwrap_or_default() {
            self.write(trainer, &folder::name(progress), progress)?;
        }
        let place = |saved| self.output.path().join(folder::name(saved));
        let saved = self.saved.map(|saved| place(saved).display().to_string());
        let (saved, with) = (
            saved.unwrap_or("no step was taken".to_owned()),
            if self.config.overwrite_output_dir {
                " with overwrite_output_dir: false"
            } else {
                ""
            },
        );
        let message = match self.config.save_only_model {
            true => format!("stopped by {signal}; {saved}: the model alone (save_only_model)"),
            false => {
                format!("stopped by {signal}; {saved}: the same command{with} goes on from there")
            }
        };
        self.report.say(&message);
        Ok(Some(signal))
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
            let epoch = step as f64 / self.sampler.steps_per_epoch as f64;
            self.report.log(step, epoch, rate, measures)?;
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        trainer: &Trainer,
        preprocessors: Preprocessors,
        progress: Progress,
    ) -> Result<()> {
        let step = progress.step;
        let every = match self.config.eval_strategy {
            Some(EvalStrategy::No) => return Ok(()),
            Some(EvalStrategy::Epoch) => self.sampler.steps_per_epoch,
            _ => self.config.eval_steps.unwrap_or(self.config.logging_steps),
        };
        if self.evaluations.is_empty() || !self.due(step, every) {
            return Ok(());
        }
        let mut results = BTreeMap::new();
        for (name, rows) in &self.evaluations {
            let (measures, news) = self.measure(trainer, preprocessors, rows)?;
            results.insert(name.as_str(), measures);
            let news = news.into_iter().filter(|n| self.told.insert(n.clone()));
            news.for_each(|notice| self.report.say(&notice));
        }
        self.report.evaluation(step, &results)?;
        let first = results.values().next().cloned();
        self.measured = first.map(|measures| (trainer.taken, measures));
        match &self.criterion {
            Some(criterion) => {
                let judged = criterion.judge(self.best, step, &results)?;
                self.keep(trainer, progress, judged)
            }
            None => Ok(()),
        }
    }

    /// What a set measures, and what is to be said of its rows.
    fn measure(
        &self,
        trainer: &Trainer,
        preprocessors: Preprocessors,
        rows: &Rows,
    ) -> Result<(Measures, Vec<String>)> {
        let (count, size) = (rows.count(), self.config.per_device_eval_batch_size);
        let mut skipped = SkippedRows::new(rows, self.config.max_bad_fraction, BTreeSet::new());
        let mut news = Vec::new();
        let measures = std::thread::scope(|scope| {
            let batch = move |first| (first..count.min(first + size)).collect();
            let batches = (0..count).step_by(size);
            let batches = batches.map(move |first| (preprocessors, vec![batch(first)]));
            let mut prepared = loader::spawn(scope, rows, batches);
            trainer.evaluate((0..count.div_ceil(size)).map(|_| {
                let mut batches = prepared.step()?;
                news.extend(skipped.add(&batches)?);
                batches.pop().context("no batch")
            }))
        })?;
        Ok((measures, news))
    }

    /// Keeps the weights that did best.
    fn keep(
        &mut self,
        trainer: &Trainer,
        progress: Progress,
        (best, is_this): (Best, bool),
    ) -> Result<()> {
        self.best = Some(best);
        if is_this && self.config.load_best_model_at_end {
            self.report.sync()?;
            let checkpoint = self.checkpoint(trainer);
            checkpoint.write(self.output.path(), folder::BEST, progress)?;
        }
        Ok(())
    }

    fn say_best(&self) {
        let wanted = self.config.load_best_model_at_end;
        if let Some(best) = self.best.filter(|_| wanted) {
            let folder = self.output.path().join(folder::BEST);
            let (step, value) = (best.step, best.value);
            self.report.say(&format!(
                "best: {value} behind step {step}: {}",
                folder.display()
            ));
        }
    }

    fn gives_up(&self) -> bool {
        let criterion = self.criterion.as_ref();
        criterion.is_some_and(|criterion| criterion.gives_up(self.best))
    }

    /// The end of a run that nothing better is expected of; one that had ended so before leaves its end alone.
    fn end_early(&mut self, trainer: &Trainer, progress: Progress) -> Result<()> {
        let waited = self.best.map_or(0, |best| best.waited);
        self.report.say(&format!(
            "stopped early behind step {}: {waited} evaluations without a better one",
            progress.step
        ));
        match self.output.path().join(folder::LAST).exists() {
            true => Ok(()),
            false => self.write(trainer, folder::LAST, progress),
        }
    }

    /// Saves what is due: the complete run, or one more checkpoint on the way.
    fn save(&mut self, trainer: &Trainer, progress: Progress) -> Result<()> {
        if progress.step == self.sampler.total_steps {
            // A run that was cut off behind a checkpoint may not have come to it.
            self.prune()?;
            return self.write(trainer, folder::LAST, progress);
        }
        let every = match self.config.save_strategy {
            SaveStrategy::No => return Ok(()),
            SaveStrategy::Steps => self.config.save_steps,
            SaveStrategy::Epoch => self.sampler.steps_per_epoch,
        };
        let steps = if progress.step > 0 {
            progress.step
        } else {
            progress.warmup
        };
        if steps.is_multiple_of(every) {
            self.write(trainer, &folder::name(progress), progress)?;
            self.prune()?;
        }
        Ok(())
    }

    fn prune(&self) -> Result<()> {
        let keep = self.config.save_total_limit;
        keep.map_or(Ok(()), |keep| self.output.prune(keep))
    }

    fn write(&mut self, trainer: &Trainer, name: &str, progress: Progress) -> Result<()> {
        self.report.sync()?;
        self.checkpoint(trainer)
            .write(self.output.path(), name, progress)?;
        // Where they came from may be the checkpoint that the run went on from, which is pruned one day.
        let folder = self.output.path().join(name);
        let moved = |file: &PathBuf| Some(folder.join(file.file_name()?));
        self.tokenizer_files = self.tokenizer_files.iter().filter_map(moved).collect();
        self.saved = Some(progress);
        Ok(())
    }

    fn checkpoint<'b>(&'b self, trainer: &'b Trainer) -> Checkpoint<'b> {
        let measured = self.measured.as_ref();
        let measured = measured.filter(|(taken, _)| *taken == trainer.taken);
        Checkpoint {
            trainer,
            config: self.config,
            tokenizer_files: &self.tokenizer_files,
            probes: &self.probes,
            skipped_rows: self.skipped.numbers(),
            measured: measured.map(|(_, measures)| measures),
            best: self.best,
        }
    }

    /// Every so many steps, and after the last.
    fn due(&self, step: usize, every: usize) -> bool {
        step == self.sampler.total_steps || (every > 0 && step.is_multiple_of(every))
    }
}

/// A model without a reward head has none.
fn probes(config: &Config, rows: &Rows, preprocessors: &Branches<Preprocessor>) -> Result<Probes> {
    match config.algorithm {
        Algorithm::Sft => Ok(Probes::none()),
        _ => Probes::choose(rows, preprocessors),
    }
}

fn read_rows(config: &Config, path: &str, notices: &mut Vec<String>) -> Result<Rows> {
    let read = Read::open(config, Path::new(path))?;
    let (rows, unreadable) = read.within(config.max_bad_fraction)?;
    notices.extend(unreadable.iter().map(rows::notice));
    Ok(rows)
}

fn evaluation_sets(config: &Config, notices: &mut Vec<String>) -> Result<Vec<(String, Rows)>> {
    let set =
        |(name, path): (&String, &String)| Ok((name.clone(), read_rows(config, path, notices)?));
    config.eval_data.iter().map(set).collect()
}
