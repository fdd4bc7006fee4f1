//! Evaluations during training, and which of them was best.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::thread;

use anyhow::Result;
use prost::Message;

use crate::config::{Config, EvalStrategy};
use crate::data::loader::{self, Preprocessors};
use crate::data::rows::Rows;
use crate::data::skipped_rows::SkippedRows;
use crate::step::agreement;
use crate::step::best::{Best, Criterion};
use crate::step::measures::{self, Measures, PassSums};
use crate::step::trainer::Trainer;
use crate::world::ranks::World;

/// The evaluation sets of a run and their results.
pub(crate) struct Evaluator<'a> {
    config: &'a Config,
    world: Rc<World>,
    sets: Vec<(String, Rows)>,
    criterion: Option<Criterion>,
    best: Option<Best>,
    /// The optimizer steps taken before the last evaluation, and the measures of the first of its sets.
    measured: Option<(usize, Measures)>,
}

/// The sums of one process's share of a set.
#[derive(Clone, PartialEq, Message)]
struct SetSums {
    #[prost(message, repeated, tag = "1")]
    passes: Vec<PassSums>,
    #[prost(message, repeated, tag = "2")]
    skipped: Vec<agreement::SkippedOfPass>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of these sets by name; `best` is the best evaluation before.
    ///
    /// # Errors
    /// As [`Criterion::of`].
    pub(crate) fn new(
        config: &'a Config,
        world: Rc<World>,
        sets: Vec<(String, Rows)>,
        best: Option<Best>,
    ) -> Result<Self> {
        Ok(Self {
            config,
            world,
            sets,
            criterion: Criterion::of(config)?,
            best,
            measured: None,
        })
    }

    /// The best evaluation so far.
    pub(crate) fn best(&self) -> Option<Best> {
        self.best
    }

    /// The measures of the first set on weights that have taken `taken` steps, if they were evaluated.
    pub(crate) fn measured_at(&self, taken: usize) -> Option<&Measures> {
        let measured = self.measured.as_ref().filter(|(at, _)| *at == taken);
        measured.map(|(_, measures)| measures)
    }

    /// The number of steps between evaluations, if there are any.
    pub(crate) fn every(&self, steps_per_epoch: usize) -> Option<usize> {
        let every = match self.config.eval_strategy {
            Some(EvalStrategy::No) => return None,
            Some(EvalStrategy::Epoch) => steps_per_epoch,
            _ => self.config.eval_steps.unwrap_or(self.config.logging_steps),
        };
        (!self.sets.is_empty()).then_some(every)
    }

    /// The measures of every set, and notices about their rows.
    ///
    /// # Errors
    /// The rows' files, or too many rows that cannot be read.
    pub(crate) fn measure(
        &mut self,
        trainer: &Trainer,
        preprocessors: Preprocessors,
    ) -> Result<(BTreeMap<String, Measures>, Vec<String>)> {
        let (mut results, mut notices) = (BTreeMap::new(), Vec::new());
        for (name, rows) in &self.sets {
            let measures = self.measure_set(trainer, preprocessors, rows, &mut notices)?;
            results.insert(name.clone(), measures);
        }
        let first = results.values().next().cloned();
        self.measured = first.map(|measures| (trainer.taken, measures));
        Ok((results, notices))
    }

    /// Every process measures its share of the batches.
    fn measure_set(
        &self,
        trainer: &Trainer,
        preprocessors: Preprocessors,
        rows: &Rows,
        notices: &mut Vec<String>,
    ) -> Result<Measures> {
        let own = self.share_of_set(trainer, preprocessors, rows)?;
        let all = self.world.exchange(&own)?;
        let mut skipped = SkippedRows::new(rows, self.config.max_bad_fraction, BTreeSet::new());
        let batches: Vec<_> = all.iter().map(|of| &of.skipped[..]).collect();
        notices.extend(skipped.add(&agreement::in_order(&batches))?);
        let passes = measures::in_order(all.into_iter().map(|of| of.passes));
        Ok(Measures::of(&passes))
    }

    fn share_of_set(
        &self,
        trainer: &Trainer,
        preprocessors: Preprocessors,
        rows: &Rows,
    ) -> Result<SetSums> {
        let (count, size) = (rows.count(), self.config.per_device_eval_batch_size);
        let batch = move |first: usize| (first..count.min(first + size)).collect();
        let firsts = self.world.ranks().share((0..count).step_by(size));
        let firsts: Vec<usize> = firsts.collect();
        thread::scope(|scope| {
            let batches = firsts
                .iter()
                .map(|&first| (preprocessors, vec![batch(first)]));
            let mut prepared = loader::spawn(scope, rows, batches);
            let mut sums = SetSums::default();
            for first in &firsts {
                for batch in prepared.step()? {
                    sums.skipped.push(agreement::SkippedOfPass::of(&batch));
                    sums.passes.extend(trainer.evaluate(first / size, &batch)?);
                }
            }
            Ok(sums)
        })
    }

    /// Whether these results, measured after step `step`, are the best so far.
    ///
    /// # Errors
    /// The results have no such metric.
    pub(crate) fn judge(
        &mut self,
        step: usize,
        results: &BTreeMap<String, Measures>,
    ) -> Result<bool> {
        let Some(criterion) = &self.criterion else {
            return Ok(false);
        };
        let (best, is_best) = criterion.judge(self.best, step, results)?;
        self.best = Some(best);
        Ok(is_best)
    }

    /// The number of evaluations without a better one, if no better one is waited for any more.
    pub(crate) fn gives_up(&self) -> Option<usize> {
        let criterion = self.criterion.as_ref()?;
        let gives_up = criterion.gives_up(self.best);
        gives_up.then(|| self.best.map_or(0, |best| best.waited))
    }
}
