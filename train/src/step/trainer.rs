//! One optimizer step and its measures.

use std::rc::Rc;

use anyhow::{Error, Result, anyhow, bail};
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
use crate::step::measures::{Measures, Sums, accumulate};
use crate::step::optimizer::{AdamW, clip_factor, forget_gradients, gradient_norm};
use crate::step::schedule::Rates;

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
    objective: Objective,
    config: Config,
}

impl Trainer {
    /// A trainer at its first step.
    pub fn new(config: &Config, models: Branches<Model>, parameters: Rc<Parameters>) -> Self {
        let optimizer = AdamW::new(config);
        Self {
            models,
            parameters,
            optimizer,
            taken: 0,
            objective: Objective::new(config),
            config: config.clone(),
        }
    }

    /// Forward and backward over the step's batches, one clip over all branches, one update.
    ///
    /// # Errors
    /// A loss or gradient that is not finite: the rows are named, and the weights stay unchanged.
    pub fn step(&mut self, batches: &[Batch], rates: Rates) -> Result<Measures> {
        let (measures, losses) = self.backward(batches)?;
        let norm = gradient_norm(&self.parameters);
        let measures = Measures {
            grad_norm: Some(norm),
            ..measures
        };
        if !measures.loss.is_finite() || !norm.is_finite() {
            return Err(not_finite(&measures, &filled(batches), &losses));
        }
        self.update(norm, rates)?;
        Ok(measures)
    }

    /// Computes the gradients of the mean loss over all rows. Returns measures, and the loss of each batch that has rows.
    ///
    /// # Errors
    /// Inputs that do not fit the model, or LibTorch's.
    pub fn backward(&self, batches: &[Batch]) -> Result<(Measures, Vec<Tensor>)> {
        let batches = filled(batches);
        let rows: usize = batches.iter().map(|batch| batch.rows()).sum();
        forget_gradients(&self.parameters);
        let mut sums = Sums::default();
        let mut losses = Vec::with_capacity(batches.len());
        for (index, batch) in batches.iter().enumerate() {
            let pass = Rc::new(ForwardContext::new(&self.config, self.taken, index));
            let loss = self.forward(batch, Some(&pass), &mut sums)?;
            losses.push(loss.detach());
            pass.backward(&(loss / rows as f64))?;
        }
        Ok((self.with_load(sums.means(rows)?, &batches), losses))
    }

    /// The measures, completed by the amount of work.
    fn with_load(&self, measures: Measures, batches: &[&Batch]) -> Measures {
        let (load, work_saved) = self.load(batches);
        let read = load.tokens + load.padding;
        Measures {
            tokens: load.tokens,
            padding_share: (read > 0).then(|| load.padding as f64 / read as f64),
            work_saved,
            ..measures
        }
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

    /// The measures of evaluation batches.
    ///
    /// # Errors
    /// A batch that cannot be read, or LibTorch's.
    pub(crate) fn evaluate(
        &self,
        batches: impl Iterator<Item = Result<Batch>>,
    ) -> Result<Measures> {
        let (mut sums, mut rows) = (Sums::default(), 0);
        for batch in batches {
            let batch = batch?;
            if batch.rows() == 0 {
                continue;
            }
            rows += batch.rows();
            let _ = no_grad(|| self.forward(&batch, None, &mut sums))?;
        }
        sums.means(rows)
    }

    /// The input of all branches in these batches, and the share of the work that sharing saves.
    fn load(&self, batches: &[&Batch]) -> (Workload, Option<f64>) {
        let of = |inputs: fn(&Batch) -> &Option<Inputs>| -> Workload {
            let inputs = batches.iter().filter_map(|batch| inputs(batch).as_ref());
            inputs.map(|inputs| inputs.load).sum()
        };
        let loads = [of(|batch| &batch.main), of(|batch| &batch.text)];
        let costs = self.models.each().map(|model| Costs::of(&model.config));
        let branches: Vec<_> = costs.zip(loads).collect();
        (loads.into_iter().sum(), work_saved(&branches))
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

/// The batches that have rows.
fn filled(batches: &[Batch]) -> Vec<&Batch> {
    batches.iter().filter(|batch| batch.rows() > 0).collect()
}

/// Names the rows of the batches whose loss is not finite, or of all batches if only the gradient is not finite.
fn not_finite(measures: &Measures, batches: &[&Batch], losses: &[Tensor]) -> Error {
    let is_finite = |loss: &Tensor| loss.double_value(&[]).is_finite();
    let is_suspect = |loss: &Tensor| measures.loss.is_finite() || !is_finite(loss);
    let suspects = batches
        .iter()
        .zip(losses)
        .filter(|(_, loss)| is_suspect(loss));
    let places: Vec<&str> = suspects
        .flat_map(|(batch, _)| batch.places.iter().map(String::as_str))
        .collect();
    anyhow!(
        "the loss is {} and the gradient norm {}: the weights are unchanged since before these rows: {} \
         (is learning_rate too high?)",
        measures.loss,
        measures.grad_norm.unwrap_or(f64::NAN),
        places.join(", ")
    )
}
