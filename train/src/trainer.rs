//! One optimizer step, and the measures taken on the way.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Error, Result, anyhow, bail};
use seeward_models::config::RewardScale;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::batch::Inputs;
use crate::config::{Algorithm, Config};
use crate::load::{Costs, Load, work_saved};
use crate::loader::Batch;
use crate::loss::{self, Objective, PairLoss};
use crate::model::Model;
use crate::optimizer::{AdamW, clip_factor, forget_gradients, gradient_norm};
use crate::parameters::Parameters;
use crate::pass::Pass;
use crate::setup::Branches;

/// Branches, optimizer and what a step needs to know of the config.
pub struct Trainer {
    /// The networks.
    pub models: Branches<Model>,
    /// Their weights.
    pub parameters: Rc<Parameters>,
    /// Its optimizer.
    pub optimizer: AdamW,
    /// Optimizer steps taken before, the warm-up's included: randomness depends on them.
    pub taken: usize,
    objective: Objective,
    config: Config,
}

/// Learning rates of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of the main branch.
    pub main: f64,
    /// Of the text-only branch.
    pub text: f64,
}

/// What one optimizer step measured: means over its rows. `None` where the algorithm has no such measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// The loss that was minimised.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Share of pairs that the deployed branch orders as labelled; a tie is half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The same of the text-only branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_text: Option<f64>,
    /// Mean shortcut-failure coefficient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sfc_mean: Option<f64>,
    /// Mean loss of the main branch, unweighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_main: Option<f64>,
    /// Mean loss of the text-only branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_text: Option<f64>,
    /// Mean reward of the deployed branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_mean: Option<f64>,
    /// Standard deviation of its rewards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_std: Option<f64>,
    /// Mean reward of the text-only branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_mean_text: Option<f64>,
    /// Standard deviation of its rewards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_std_text: Option<f64>,
    /// Tokens that were computed, of both branches.
    #[serde(skip)]
    pub tokens: usize,
    /// The share of padding among the tokens of a training step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding_share: Option<f64>,
    /// The share of a training step's work that sharing saves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_saved: Option<f64>,
    /// Values by name: one per row of margins and shortcut-failure coefficients, two of rewards.
    #[serde(skip)]
    pub distributions: Vec<(&'static str, Vec<f64>)>,
}

impl Measures {
    /// One value per row of the measure `name`; none where the algorithm has no such measure.
    pub fn spread_of(&self, name: &str) -> &[f64] {
        let found = self.distributions.iter().find(|(key, _)| *key == name);
        found.map_or(&[], |(_, values)| values)
    }
}

/// Sums over rows, so that batches of different sizes weigh by their rows.
#[derive(Default)]
struct Sums {
    total: Option<Tensor>,
    main: Option<Tensor>,
    text: Option<Tensor>,
    sfc: Option<Tensor>,
    correct: Option<Tensor>,
    correct_text: Option<Tensor>,
    distributions: BTreeMap<&'static str, Vec<Tensor>>,
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

    /// Forward and backward over the step's batches, one clip over both branches, one update.
    ///
    /// # Errors
    /// A loss or gradient that is not finite: the rows are named, and the weights are as they were.
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

    /// Leaves in the weights the gradients of the mean loss over all rows; measures, and the loss of each batch that has
    /// rows.
    ///
    /// # Errors
    /// Those of the network.
    pub fn backward(&self, batches: &[Batch]) -> Result<(Measures, Vec<Tensor>)> {
        let batches = filled(batches);
        let rows: usize = batches.iter().map(|batch| batch.rows()).sum();
        forget_gradients(&self.parameters);
        let mut sums = Sums::default();
        let mut losses = Vec::with_capacity(batches.len());
        for (index, batch) in batches.iter().enumerate() {
            let pass = Rc::new(Pass::new(&self.config, self.taken, index));
            let loss = self.forward(batch, Some(&pass), &mut sums)?;
            losses.push(loss.detach());
            pass.backward(&(loss / rows as f64))?;
        }
        let (load, work_saved) = self.load(&batches);
        let read = load.tokens + load.padding;
        let measures = Measures {
            tokens: load.tokens,
            padding_share: (read > 0).then(|| load.padding as f64 / read as f64),
            work_saved,
            ..sums.means(rows)?
        };
        Ok((measures, losses))
    }

    /// Takes the step whose gradients, of this norm together, are in the weights.
    fn update(&mut self, norm: f64, rates: Rates) -> Result<()> {
        let text = seeward_models::net::Branch::TextOnly.prefix();
        let rate = |name: &str| {
            if name.starts_with(&text) {
                rates.text
            } else {
                rates.main
            }
        };
        let scale = clip_factor(norm, self.config.max_grad_norm);
        self.optimizer.step(&self.parameters, scale, rate)?;
        self.taken += 1;
        Ok(())
    }

    /// The measures of batches that are not trained on.
    pub fn evaluate(&self, batches: impl Iterator<Item = Result<Batch>>) -> Result<Measures> {
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

    /// What both branches read of these batches, and the share of the work that sharing saves.
    fn load(&self, batches: &[&Batch]) -> (Load, Option<f64>) {
        let of = |inputs: fn(&Batch) -> &Option<Inputs>| -> Load {
            let inputs = batches.iter().filter_map(|batch| inputs(batch).as_ref());
            inputs.map(|inputs| inputs.load).sum()
        };
        let loads = [of(|batch| &batch.main), of(|batch| &batch.text)];
        let costs = self.models.each().map(|model| Costs::of(&model.config));
        let branches: Vec<_> = costs.zip(loads).collect();
        (loads.into_iter().sum(), work_saved(&branches))
    }

    /// The sum of the rows' losses.
    fn forward(&self, batch: &Batch, pass: Option<&Rc<Pass>>, sums: &mut Sums) -> Result<Tensor> {
        if self.config.algorithm == Algorithm::Sft {
            return self.next_token(batch, pass, sums);
        }
        let main = batch
            .main
            .as_ref()
            .map(|inputs| self.models.main.rewards_within(pass, inputs))
            .transpose()?;
        let text = match (&self.models.text, &batch.text) {
            (Some(model), Some(inputs)) => Some(model.rewards_within(pass, inputs)?),
            _ => None,
        };
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
        pass: Option<&Rc<Pass>>,
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

impl Measures {
    /// The scale of the rewards of each branch that has any.
    pub fn reward_scales(&self) -> [Option<RewardScale>; 2] {
        let scale = |mean: Option<f64>, std: Option<f64>| {
            Some(RewardScale {
                mean: mean?,
                std: std?,
            })
        };
        [
            scale(self.reward_mean, self.reward_std),
            scale(self.reward_mean_text, self.reward_std_text),
        ]
    }
}

impl Sums {
    fn add(&mut self, loss: &PairLoss) {
        accumulate(&mut self.total, &loss.total);
        let Some(text) = &loss.text else { return };
        accumulate(&mut self.main, &loss.main);
        accumulate(&mut self.text, text);
        if let Some(sfc) = &loss.sfc {
            accumulate(&mut self.sfc, sfc);
            self.spread("sfc", sfc);
        }
    }

    fn count(&mut self, main: Option<&Tensor>, text: Option<&Tensor>) {
        if let Some(rewards) = main {
            let margins = loss::margins(rewards);
            accumulate(&mut self.correct, &loss::preferred(&margins));
            self.spread("margins", &margins);
            self.spread("rewards", rewards);
        }
        if let Some(rewards) = text {
            let margins = loss::margins(rewards);
            accumulate(&mut self.correct_text, &loss::preferred(&margins));
            self.spread("margins_text", &margins);
            self.spread("rewards_text", rewards);
        }
    }

    fn spread(&mut self, name: &'static str, values: &Tensor) {
        let values = values.detach();
        self.distributions.entry(name).or_default().push(values);
    }

    fn means(&self, rows: usize) -> Result<Measures> {
        let mean =
            |sum: &Option<Tensor>| sum.as_ref().map(|sum| sum.double_value(&[]) / rows as f64);
        let spread = |(name, values): (&&'static str, &Vec<Tensor>)| {
            let values = Tensor::cat(values, 0).to_kind(Kind::Double);
            Ok((*name, Vec::try_from(values)?))
        };
        let distributions: Vec<_> = self
            .distributions
            .iter()
            .map(spread)
            .collect::<Result<_>>()?;
        let scale = |name| {
            let named = distributions.iter().find(|(of, _)| *of == name);
            named.and_then(|(_, values)| scale(values))
        };
        let (rewards, rewards_text) = (scale("rewards"), scale("rewards_text"));
        Ok(Measures {
            loss: mean(&self.total).unwrap_or(f64::NAN),
            grad_norm: None,
            accuracy: mean(&self.correct),
            accuracy_text: mean(&self.correct_text),
            sfc_mean: mean(&self.sfc),
            loss_main: mean(&self.main),
            loss_text: mean(&self.text),
            reward_mean: rewards.map(|scale| scale.mean),
            reward_std: rewards.map(|scale| scale.std),
            reward_mean_text: rewards_text.map(|scale| scale.mean),
            reward_std_text: rewards_text.map(|scale| scale.std),
            tokens: 0,
            padding_share: None,
            work_saved: None,
            distributions,
        })
    }
}

/// Of the values themselves, not of what they are a sample of.
fn scale(values: &[f64]) -> Option<RewardScale> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let std = (squares.sum::<f64>() / count).sqrt();
    (!values.is_empty()).then_some(RewardScale { mean, std })
}

/// The batches that have rows.
fn filled(batches: &[Batch]) -> Vec<&Batch> {
    batches.iter().filter(|batch| batch.rows() > 0).collect()
}

/// Names the rows of the batches whose own loss is not finite; where only the gradient is not, those of the step.
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
        "the loss is {} and the gradient norm {}: the weights are left as they were before these rows: {} \
         (is learning_rate too high?)",
        measures.loss,
        measures.grad_norm.unwrap_or(f64::NAN),
        places.join(", ")
    )
}

fn accumulate(sum: &mut Option<Tensor>, values: &Tensor) {
    let added = values.detach().sum(Kind::Double);
    *sum = Some(match sum.take() {
        Some(sum) => sum + added,
        None => added,
    });
}
