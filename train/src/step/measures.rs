//! The measures of a step or an evaluation, summed over batches.

use std::collections::BTreeMap;

use anyhow::Result;
use seeward_models::config::RewardScale;
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::step::loss::{self, PairLoss};

/// The measures of one optimizer step or evaluation: means over its rows. `None` if the algorithm has no such measure.
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
    pub(crate) accuracy_text: Option<f64>,
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
    pub(crate) reward_mean: Option<f64>,
    /// Standard deviation of its rewards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward_std: Option<f64>,
    /// Mean reward of the text-only branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward_mean_text: Option<f64>,
    /// Standard deviation of its rewards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward_std_text: Option<f64>,
    /// Computed tokens of all branches.
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
    pub(crate) distributions: Vec<(&'static str, Vec<f64>)>,
}

impl Measures {
    /// One value per row of the measure `name`; empty if the algorithm has no such measure.
    pub(crate) fn spread_of(&self, name: &str) -> &[f64] {
        let found = self.distributions.iter().find(|(key, _)| *key == name);
        found.map_or(&[], |(_, values)| values)
    }

    /// Mean and deviation of the rewards of each branch.
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

/// Sums over rows: batches of different sizes are weighted by their rows.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) total: Option<Tensor>,
    main: Option<Tensor>,
    text: Option<Tensor>,
    sfc: Option<Tensor>,
    correct: Option<Tensor>,
    correct_text: Option<Tensor>,
    distributions: BTreeMap<&'static str, Vec<Tensor>>,
}

impl Sums {
    pub(crate) fn add(&mut self, loss: &PairLoss) {
        accumulate(&mut self.total, &loss.total);
        let Some(text) = &loss.text else { return };
        accumulate(&mut self.main, &loss.main);
        accumulate(&mut self.text, text);
        if let Some(sfc) = &loss.sfc {
            accumulate(&mut self.sfc, sfc);
            self.spread("sfc", sfc);
        }
    }

    pub(crate) fn count(&mut self, main: Option<&Tensor>, text: Option<&Tensor>) {
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

    fn distributions(&self) -> Result<Vec<(&'static str, Vec<f64>)>> {
        let joined = |(name, values): (&&'static str, &Vec<Tensor>)| {
            let values = Tensor::cat(values, 0).to_kind(Kind::Double);
            Ok((*name, Vec::try_from(values)?))
        };
        self.distributions.iter().map(joined).collect()
    }

    pub(crate) fn means(&self, rows: usize) -> Result<Measures> {
        let mean =
            |sum: &Option<Tensor>| sum.as_ref().map(|sum| sum.double_value(&[]) / rows as f64);
        let distributions = self.distributions()?;
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

/// Mean and population standard deviation.
fn scale(values: &[f64]) -> Option<RewardScale> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let std = (squares.sum::<f64>() / count).sqrt();
    (!values.is_empty()).then_some(RewardScale { mean, std })
}

pub(crate) fn accumulate(sum: &mut Option<Tensor>, values: &Tensor) {
    let added = values.detach().sum(Kind::Double);
    *sum = Some(match sum.take() {
        Some(sum) => sum + added,
        None => added,
    });
}
