//! The measures of a step or an evaluation, summed over batches.

use std::collections::BTreeMap;

use anyhow::Result;
use prost::Message;
use seeward_models::config::RewardScale;
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::data::flops::Workload;
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
    pub(crate) distributions: Vec<Distribution>,
}

/// The values of one measure, in the order of rows.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Distribution {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(double, repeated, tag = "2")]
    pub(crate) values: Vec<f64>,
}

/// The sums over the rows of one forward pass, as processes exchange them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PassSums {
    /// Number of the pass among those of all processes.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(double, optional, tag = "3")]
    pub(crate) total: Option<f64>,
    #[prost(double, optional, tag = "4")]
    main: Option<f64>,
    #[prost(double, optional, tag = "5")]
    text: Option<f64>,
    #[prost(double, optional, tag = "6")]
    sfc: Option<f64>,
    #[prost(double, optional, tag = "7")]
    correct: Option<f64>,
    #[prost(double, optional, tag = "8")]
    correct_text: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    distributions: Vec<Distribution>,
    /// Counts of the main branch's work, then of the text-only one's.
    #[prost(uint64, repeated, tag = "10")]
    loads: Vec<u64>,
}

impl PassSums {
    /// The work of the main branch, then of the text-only one.
    pub(crate) fn loads(&self) -> [Workload; 2] {
        let (branches, _) = self.loads.as_chunks();
        let of = |branch: usize| branches.get(branch).copied().map(Workload::of_counts);
        [0, 1].map(|branch| of(branch).unwrap_or_default())
    }
}

impl Measures {
    /// The measures of passes in the order of their numbers, whose sums are added in this order. Without the amount of work.
    pub(crate) fn of(passes: &[PassSums]) -> Self {
        let rows: u64 = passes.iter().map(|pass| pass.rows).sum();
        let mean = |of: fn(&PassSums) -> Option<f64>| {
            let sum = passes
                .iter()
                .filter_map(of)
                .reduce(|sum, added| sum + added);
            sum.map(|sum| sum / rows as f64)
        };
        let distributions = joined(passes);
        let scale = |name| {
            let named = distributions.iter().find(|of| of.name == name);
            named.and_then(|of| scale(&of.values))
        };
        let (rewards, rewards_text) = (scale("rewards"), scale("rewards_text"));
        Self {
            loss: mean(|pass| pass.total).unwrap_or(f64::NAN),
            grad_norm: None,
            accuracy: mean(|pass| pass.correct),
            accuracy_text: mean(|pass| pass.correct_text),
            sfc_mean: mean(|pass| pass.sfc),
            loss_main: mean(|pass| pass.main),
            loss_text: mean(|pass| pass.text),
            reward_mean: rewards.map(|scale| scale.mean),
            reward_std: rewards.map(|scale| scale.std),
            reward_mean_text: rewards_text.map(|scale| scale.mean),
            reward_std_text: rewards_text.map(|scale| scale.std),
            tokens: 0,
            padding_share: None,
            work_saved: None,
            distributions,
        }
    }

    /// One value per row of the measure `name`; empty if the algorithm has no such measure.
    pub(crate) fn spread_of(&self, name: &str) -> &[f64] {
        let found = self.distributions.iter().find(|of| of.name == name);
        found.map_or(&[], |of| &of.values)
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

/// Sums over the rows of one pass, on its device.
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

    /// The sums on the host, of pass `number` with `rows` rows and these loads.
    pub(crate) fn of_pass(
        &self,
        number: usize,
        rows: usize,
        loads: [Workload; 2],
    ) -> Result<PassSums> {
        let value = |sum: &Option<Tensor>| sum.as_ref().map(|sum| sum.double_value(&[]));
        let distribution = |(name, values): (&&'static str, &Vec<Tensor>)| {
            let values = Tensor::cat(values, 0).to_kind(Kind::Double);
            anyhow::Ok(Distribution {
                name: (*name).to_owned(),
                values: Vec::try_from(values)?,
            })
        };
        let distributions = self.distributions.iter().map(distribution);
        Ok(PassSums {
            number: number as u64,
            rows: rows as u64,
            total: value(&self.total),
            main: value(&self.main),
            text: value(&self.text),
            sfc: value(&self.sfc),
            correct: value(&self.correct),
            correct_text: value(&self.correct_text),
            distributions: distributions.collect::<Result<_>>()?,
            loads: loads.map(Workload::counts).concat(),
        })
    }
}

/// The passes of all processes, in the order of their numbers.
pub(crate) fn in_order(processes: impl Iterator<Item = Vec<PassSums>>) -> Vec<PassSums> {
    let mut passes: Vec<_> = processes.flatten().collect();
    passes.sort_by_key(|pass| pass.number);
    passes
}

/// The distributions of all passes, joined by name, in the order of names.
fn joined(passes: &[PassSums]) -> Vec<Distribution> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for of in passes.iter().flat_map(|pass| &pass.distributions) {
        values.entry(&of.name).or_default().extend(&of.values);
    }
    let named = |(name, values): (&str, _)| Distribution {
        name: name.to_owned(),
        values,
    };
    values.into_iter().map(named).collect()
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
