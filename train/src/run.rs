//! The training loop.

use std::ops::Range;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use prost::Message;
use seeward_models::process::{Signal, Stop};
use tch::Device;

use crate::config::Config;
use crate::data::loader::{self, Batch, Prepared};
use crate::libtorch::memory;
use crate::output::trainer_state::Progress;
use crate::startup::Run;
use crate::step::agreement::{Agreement, agree};
use crate::step::measures::Measures;
use crate::step::phase::Phase;
use crate::step::schedule::Rates;
use crate::world::ranks::World;

/// The ending of a run that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is complete and `checkpoint-last` is written.
    Complete,
    /// A signal stopped the run; a checkpoint of the last step taken is written.
    Stopped(Signal),
}

/// The peak memory of a process.
#[derive(Clone, PartialEq, Message)]
struct Peak {
    #[prost(uint64, optional, tag = "1")]
    bytes: Option<u64>,
}

/// Trains as `config` says and leaves `checkpoint-last` in its output folder, or a checkpoint to resume from if `stop`
/// asks for it. Every process of `world` calls it with the same config.
///
/// # Errors
/// A problem with the config's files, with a row (its place is named), with a loss that is not finite, or with the disk.
pub fn run(config: &Config, device: Device, world: &Rc<World>, stop: &Stop) -> Result<Ending> {
    let (mut run, done) = Run::open(config, device, world)?;
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
                let (batches, agreed) = self.agree(&mut batches, stop)?;
                let progress = self.progress(phase, step);
                if let Some(ending) = self.ending(progress, agreed.signal)? {
                    return Ok(Some(ending));
                }
                let rates = self.schedule.rates(phase, step);
                let measures = self
                    .step(&batches, &agreed, rates)
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

    /// Waits for the batches that the loader prepares for the next step, and for all processes.
    fn agree(&mut self, prepared: &mut Prepared, stop: &Stop) -> Result<(Vec<Batch>, Agreement)> {
        let asked = Instant::now();
        let batches = prepared.step()?;
        let agreed = agree(&self.world, self.trainer.taken, &batches, stop.signal())?;
        self.report.waited(asked.elapsed());
        Ok((batches, agreed))
    }

    /// Takes one step. A step whose rows are all skipped passes without an update and without measures.
    fn step(
        &mut self,
        batches: &[Batch],
        agreed: &Agreement,
        rates: Rates,
    ) -> Result<Option<Measures>> {
        self.report.notices(self.skipped.add(&agreed.skipped)?);
        if agreed.rows == 0 {
            self.trainer.taken += 1;
            return Ok(None);
        }
        let measures = self.trainer.share_of_step(batches, agreed.rows, rates)?;
        self.report.step(&measures, agreed.rows);
        Ok(Some(measures))
    }

    fn log(&mut self, step: usize, rates: Rates, measures: Option<Measures>) -> Result<()> {
        let first = self.config.logging_first_step && step == 1;
        let due = first || self.sampler.is_due(step, self.config.logging_steps);
        let Some(measures) = measures.filter(|_| due) else {
            return Ok(());
        };
        let epoch = step as f64 / self.sampler.steps_per_epoch as f64;
        let peak = self.peak_memory()?;
        self.report.log(step, epoch, rates.main, &measures, peak)
    }

    /// The largest peak memory of a process in bytes; `None` if the system does not report it.
    fn peak_memory(&self) -> Result<Option<u64>> {
        let own = Peak {
            bytes: memory::peak(self.device),
        };
        let all = self.world.exchange(&own)?;
        Ok(all.into_iter().filter_map(|peak| peak.bytes).max())
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
    fn ending(&mut self, progress: Progress, signal: Option<Signal>) -> Result<Option<Ending>> {
        let early = self.evaluator.gives_up();
        let (saver, snapshot) = self.saving();
        let (ending, notice) = match (early, signal) {
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
