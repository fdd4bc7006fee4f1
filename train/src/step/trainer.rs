//! One optimizer step and its measures.

use std::rc::Rc;

use anyhow::{Error, Result, anyhow, bail};
use prost::Message;
use seeward_models::net::Branch;
use tch::{Kind, Tensor, no_grad};

use crate::config::{Algorithm, Config};
use crate::data::flops::{Costs, Workload, work_saved};
use crate::data::inputs::Inputs;
use crate::data::loader::Batch;
use crate::libtorch::forward_context::ForwardContext;
use crate::libtorch::parameters::Parameters;
use crate::model::branch::Model;
use crate::model::branches::Branches;
use crate::step::loss::{self, Objective};
use crate::step::measures::{Measures, PassSums, Sums, accumulate, in_order};
use crate::step::optimizer::{AdamW, clip_factor, forget_gradients};
use crate::step::schedule::Rates;
use crate::world::ranks::World;

/// The branches, the optimizer and the settings of a step.
pub struct Trainer {
    /// The networks.
    pub models: Branches<Model>,
    /// Their weights.
    pub parameters: Rc<Parameters>,
    /// The optimizer.
    pub optimizer: AdamW,
    /// The number of steps taken, warm-up included: randomness depends on it.
    pub(crate) taken: usize,
    world: Rc<World>,
    objective: Objective,
    config: Config,
}

impl Trainer {
    /// A trainer at its first step, of a process that trains alone.
    pub fn new(config: &Config, models: Branches<Model>, parameters: Rc<Parameters>) -> Self {
        let optimizer = AdamW::new(config);
        Self {
            models,
            parameters,
            optimizer,
            taken: 0,
            world: Rc::default(),
            objective: Objective::new(config),
            config: config.clone(),
        }
    }

    /// The same, of one of several processes.
    pub(crate) fn with_world(self, world: Rc<World>) -> Self {
        Self {
            optimizer: self.optimizer.with_world(world.clone()),
            world,
            ..self
        }
    }

    /// Forward and backward over the step's batches, one clip over all branches, one update.
    ///
    /// # Errors
    /// A loss or gradient that is not finite: the rows are named, and the weights stay unchanged.
    pub fn step(&mut self, batches: &[Batch], rates: Rates) -> Result<Measures> {
        self.share_of_step(batches, rows(batches), rates)
    }

    /// This process's share of a step over `rows` rows of all processes. The measures are those of the whole step.
    ///
    /// # Errors
    /// As [`step`](Self::step), of the batches of any process; another process has ended or does not answer.
    pub(crate) fn share_of_step(
        &mut self,
        batches: &[Batch],
        rows: usize,
        rates: Rates,
    ) -> Result<Measures> {
        let own = self.passes(batches, rows)?;
        let squares = self.optimizer.reduce(&self.parameters)?;
        let all = self.world.exchange(&StepSums {
            passes: own.clone(),
            squares,
        })?;
        let norm = all.iter().map(|of| of.squares).sum::<f64>().sqrt();
        let passes = in_order(all.into_iter().map(|of| of.passes));
        let measures = Measures {
            grad_norm: Some(norm),
            ..self.with_load(&passes)
        };
        if !measures.loss.is_finite() || !norm.is_finite() {
            return Err(self.not_finite(&measures, batches, &own)?);
        }
        self.update(norm, rates)?;
        Ok(measures)
    }

    /// Computes the gradients of the mean loss over all rows. Returns measures.
    ///
    /// # Errors
    /// Inputs that do not fit the model, or LibTorch's.
    pub fn backward(&self, batches: &[Batch]) -> Result<Measures> {
        Ok(self.with_load(&self.passes(batches, rows(batches))?))
    }

    /// Adds up the gradients of this process's passes, of a mean over `rows` rows. Returns the sums of each pass that has
    /// rows.
    fn passes(&self, batches: &[Batch], rows: usize) -> Result<Vec<PassSums>> {
        forget_gradients(&self.parameters);
        let mut passes = Vec::with_capacity(batches.len());
        for (index, batch) in filled(batches) {
            let number = self.world.ranks().number(index);
            let pass = Rc::new(ForwardContext::new(&self.config, self.taken, number));
            let mut sums = Sums::default();
            let loss = self.forward(batch, Some(&pass), &mut sums)?;
            pass.backward(&(loss / rows as f64))?;
            passes.push((number, batch, sums));
        }
        // At the end, so that a GPU is not waited for in between.
        let sums = passes.into_iter();
        sums.map(|(number, batch, sums)| sums.of_pass(number, batch.rows(), loads(batch)))
            .collect()
    }

    /// The measures of a step's passes, with the amount of work.
    fn with_load(&self, passes: &[PassSums]) -> Measures {
        let of = |branch: usize| passes.iter().map(|pass| pass.loads()[branch]).sum();
        let loads: [Workload; 2] = [of(0), of(1)];
        let costs = self.models.each().map(|model| Costs::of(&model.config));
        let branches: Vec<_> = costs.zip(loads).collect();
        let load: Workload = loads.into_iter().sum();
        let read = load.tokens + load.padding;
        Measures {
            tokens: load.tokens,
            padding_share: (read > 0).then(|| load.padding as f64 / read as f64),
            work_saved: work_saved(&branches),
            ..Measures::of(passes)
        }
    }

    /// Names the rows of the batches whose loss is not finite, or of all batches if only the gradient is not finite.
    fn not_finite(
        &self,
        measures: &Measures,
        batches: &[Batch],
        passes: &[PassSums],
    ) -> Result<Error> {
        let is_finite = |pass: &PassSums| pass.total.is_none_or(f64::is_finite);
        let is_suspect = |pass: &PassSums| measures.loss.is_finite() || !is_finite(pass);
        let batches = filled(batches).zip(passes);
        let suspects = batches.filter(|(_, pass)| is_suspect(pass));
        let own = suspects.map(|((_, batch), pass)| Places {
            pass: pass.number,
            places: batch.places.clone(),
        });
        let own = PlacesOfPasses {
            passes: own.collect(),
        };
        let all = self.world.exchange(&own)?;
        let mut passes: Vec<_> = all.into_iter().flat_map(|of| of.passes).collect();
        passes.sort_by_key(|of| of.pass);
        let places: Vec<_> = passes.into_iter().flat_map(|of| of.places).collect();
        Ok(anyhow!(
            "the loss is {} and the gradient norm {}: the weights are unchanged since before these rows: {} \
             (is learning_rate too high?)",
            measures.loss,
            measures.grad_norm.unwrap_or(f64::NAN),
            places.join(", ")
        ))
    }

    /// Updates the weights by their gradients, which have this global norm.
    fn update(&mut self, norm: f64, rates: Rates) -> Result<()> {
        let rate = |name: &str| match Branch::of(name) {
            Branch::Main => rates.main,
            Branch::TextOnly => rates.text,
        };
        let scale = clip_factor(norm, self.config.max_grad_norm);
        self.optimizer.step(&self.parameters, scale, rate)?;
        self.taken += 1;
        Ok(())
    }

    /// The sums of the evaluation batch `number`, unless it has no rows.
    ///
    /// # Errors
    /// LibTorch's.
    pub(crate) fn evaluate(&self, number: usize, batch: &Batch) -> Result<Option<PassSums>> {
        if batch.rows() == 0 {
            return Ok(None);
        }
        let mut sums = Sums::default();
        let _ = no_grad(|| self.forward(batch, None, &mut sums))?;
        sums.of_pass(number, batch.rows(), loads(batch)).map(Some)
    }

    /// The sum of the rows' losses.
    fn forward(
        &self,
        batch: &Batch,
        pass: Option<&Rc<ForwardContext>>,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        if self.config.algorithm == Algorithm::Sft {
            return self.next_token(batch, pass, sums);
        }
        let rewards = |(model, inputs): (&Model, &Inputs)| model.rewards_within(pass, inputs);
        let main = batch
            .main
            .as_ref()
            .map(|inputs| (&self.models.main, inputs));
        let main = main.map(rewards).transpose()?;
        let text = self.models.text.as_ref().zip(batch.text.as_ref());
        let text = text.map(rewards).transpose()?;
        let wanted = batch.margins.as_ref().map(|margins| {
            let margins = Tensor::from_slice(margins).to_kind(Kind::Float);
            margins.to_device(self.models.main.device)
        });
        let (objective, wanted) = (&self.objective, wanted.as_ref());
        let loss = match (&main, &text) {
            (Some(main), Some(text)) => objective.shortcut_aware(main, text, wanted),
            (Some(alone), None) | (None, Some(alone)) => objective.standard(alone, wanted),
            (None, None) => bail!("a batch without a branch"),
        };
        sums.add(&loss);
        sums.count(main.as_ref(), text.as_ref());
        Ok(loss.total.sum(Kind::Float))
    }

    fn next_token(
        &self,
        batch: &Batch,
        pass: Option<&Rc<ForwardContext>>,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let Some(inputs) = &batch.main else {
            bail!("a batch without a branch")
        };
        let logits = self.models.main.logits(pass, inputs)?;
        let targets = Tensor::from_slice(&inputs.targets.ids).to_device(logits.device());
        let loss = loss::next_token(&logits, &targets) * batch.rows() as f64;
        accumulate(&mut sums.total, &loss);
        Ok(loss)
    }
}

/// The sums of one process's share of a step.
#[derive(Clone, PartialEq, Message)]
struct StepSums {
    #[prost(message, repeated, tag = "1")]
    passes: Vec<PassSums>,
    /// Squared norm of its part of the gradients.
    #[prost(double, tag = "2")]
    squares: f64,
}

/// The places of the rows of one pass.
#[derive(Clone, PartialEq, Message)]
struct Places {
    #[prost(uint64, tag = "1")]
    pass: u64,
    #[prost(string, repeated, tag = "2")]
    places: Vec<String>,
}

/// The places of the rows of several passes.
#[derive(Clone, PartialEq, Message)]
struct PlacesOfPasses {
    #[prost(message, repeated, tag = "1")]
    passes: Vec<Places>,
}

/// The batches that have rows, with their indices.
fn filled(batches: &[Batch]) -> impl Iterator<Item = (usize, &Batch)> {
    let batches = batches.iter().enumerate();
    batches.filter(|(_, batch)| batch.rows() > 0)
}

/// Number of rows.
fn rows(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::rows).sum()
}

/// The work of the main branch, then of the text-only one.
fn loads(batch: &Batch) -> [Workload; 2] {
    let load = |inputs: &Option<Inputs>| inputs.as_ref().map(|inputs| inputs.load);
    [&batch.main, &batch.text].map(|inputs| load(inputs).unwrap_or_default())
}
