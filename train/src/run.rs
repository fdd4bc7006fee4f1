//! The training loop.

use std::ops::Range;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use seeward_models::process::{Signal, Stop};
use tch::Device;

use crate::config::Config;
use crate::data::loader::{self, Batch, Prepared};
use crate::output::trainer_state::Progress;
use crate::startup::Run;
use crate::step::measures::Measures;
use crate::step::phase::Phase;
use crate::step::schedule::Rates;

/// The ending of a run that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is complete and `checkpoint-last` is written.
    Complete,
    /// A signal stopped the run; a checkpoint of the last step taken is written.
    Stopped(Signal),
}

/// Trains as `config` says and leaves `checkpoint-last` in its output folder, or a checkpoint to resume from if `stop`
/// asks for it.
///
/// # Errors
/// A problem with the config's files, with a row (its place is named), with a loss that is not finite, or with the disk.
pub fn run(config: &Config, device: Device, stop: &Stop) -> Result<Ending> {
    let (mut run, done) = Run::open(config, device)?;
    let mut ending = None;
    if done.step == 0 {
        ending = run.train(Phase::TextWarmUp, done.warmup..run.warmup_steps, stop)?;
    }
    if ending.is_none() {
        ending = run.train(Phase::Joint, done.step..run.sampler.total_steps, stop)?;
    }
    run.report.finish();
    let ending = ending.unwrap_or(Ending::Complete);
    if ending == Ending::Complete {
        run.saver.tidy()?;
        run.report
            .notices(run.saver.best_notice(run.evaluator.best()));
    }
    Ok(ending)
}

impl Run<'_> {
    /// Takes these steps of a phase. Returns the run's ending if it ends before the phase does.
    fn train(&mut self, phase: Phase, steps: Range<usize>, stop: &Stop) -> Result<Option<Ending>> {
        if steps.is_empty() {
            return Ok(None);
        }
        self.report.phase(phase.name(), steps.end, steps.start);
        let (rows, preprocessors) = (self.rows.clone(), self.preprocessors.clone());
        let (branches, row_numbers) = (
            phase.branches(&preprocessors),
            phase.batches(&self.sampler, steps.clone()),
        );
        thread::scope(|scope| {
            let to_prepare = row_numbers.map(|numbers| (branches, numbers));
            let mut batches = loader::spawn(scope, &rows, to_prepare);
            for step in steps {
                if let Some(ending) = self.ending(self.progress(phase, step), stop)? {
                    return Ok(Some(ending));
                }
                let rates = self.schedule.rates(phase, step);
                let measures = self
                    .step(&mut batches, rates)
                    .with_context(|| phase.place(step + 1))?;
                let progress = self.progress(phase, step + 1);
                if phase == Phase::Joint {
                    self.log(step + 1, rates, measures)?;
                    self.evaluate(progress)?;
                }
                let (saver, snapshot) = self.saving();
                saver.save(&snapshot, progress)?;
            }
            Ok(None)
        })
    }

    /// Takes one step on the batches that the loader has prepared. A step whose rows are all skipped passes without an
    /// update and without measures.
    fn step(&mut self, prepared: &mut Prepared, rates: Rates) -> Result<Option<Measures>> {
        let asked = Instant::now();
        let batches = prepared.step()?;
        self.report.waited(asked.elapsed());
        self.report.notices(self.skipped.add(&batches)?);
        let rows = batches.iter().map(Batch::rows).sum();
        if rows == 0 {
            self.trainer.taken += 1;
            return Ok(None);
        }
        let measures = self.trainer.step(&batches, rates)?;
        self.report.step(&measures, rows);
        Ok(Some(measures))
    }

    fn log(&mut self, step: usize, rates: Rates, measures: Option<Measures>) -> Result<()> {
        let first = self.config.logging_first_step && step == 1;
        let due = first || self.sampler.is_due(step, self.config.logging_steps);
        let Some(measures) = measures.filter(|_| due) else {
            return Ok(());
        };
        let epoch = step as f64 / self.sampler.steps_per_epoch as f64;
        self.report.log(step, epoch, rates.main, &measures)
    }

    fn evaluate(&mut self, progress: Progress) -> Result<()> {
        let step = progress.step;
        let every = self.evaluator.every(self.sampler.steps_per_epoch);
        if !every.is_some_and(|every| self.sampler.is_due(step, every)) {
            return Ok(());
        }
        let branches = Phase::Joint.branches(&self.preprocessors);
        let (results, notices) = self.evaluator.measure(&self.trainer, branches)?;
        self.report.notices(notices);
        self.report.evaluation(step, &results)?;
        let is_best = self.evaluator.judge(step, &results)?;
        let (saver, snapshot) = self.saving();
        match is_best {
            true => saver.save_best(&snapshot, progress),
            false => Ok(()),
        }
    }

    /// The ending of a run at this progress: an early one without a better evaluation in sight, or one by a signal.
    fn ending(&mut self, progress: Progress, stop: &Stop) -> Result<Option<Ending>> {
        let early = self.evaluator.gives_up();
        let (saver, snapshot) = self.saving();
        let (ending, notice) = match (early, stop.signal()) {
            (Some(waited), _) => (
                Ending::Complete,
                saver.end_early(&snapshot, progress, waited)?,
            ),
            (None, Some(signal)) => (
                Ending::Stopped(signal),
                saver.interrupt(&snapshot, progress, signal)?,
            ),
            (None, None) => return Ok(None),
        };
        self.report.notices([notice]);
        Ok(Some(ending))
    }
}
