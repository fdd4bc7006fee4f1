//! The amount of computation of a batch, and the share of it that sharing saves.

use std::iter::Sum;
use std::ops::Add;

use seeward_models::config::Config as ModelConfig;
use seeward_models::net::{self, Branch, Part};

/// The input of a branch's forward passes, as counts of tokens and units of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    /// Tokens of conversations.
    pub(crate) tokens: usize,
    /// Padding tokens.
    pub(crate) padding: usize,
    /// [Units](seeward_models::image::Extent::units) of images: tiles, or tokens of a grid.
    pub(crate) units: usize,
    /// Tokens without sharing: every conversation is computed separately.
    pub(crate) tokens_unshared: usize,
    /// Units without sharing.
    pub(crate) units_unshared: usize,
}

impl Workload {
    /// The counts, as processes exchange them.
    pub(crate) fn counts(self) -> [u64; 5] {
        let Self {
            tokens,
            padding,
            units,
            tokens_unshared,
            units_unshared,
        } = self;
        [tokens, padding, units, tokens_unshared, units_unshared].map(|count| count as u64)
    }

    /// The inverse of [`counts`](Self::counts).
    pub(crate) fn of_counts(counts: [u64; 5]) -> Self {
        let [tokens, padding, units, tokens_unshared, units_unshared] =
            counts.map(|count| count as usize);
        Self {
            tokens,
            padding,
            units,
            tokens_unshared,
            units_unshared,
        }
    }
}

impl Add for Workload {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            padding: self.padding + other.padding,
            units: self.units + other.units,
            tokens_unshared: self.tokens_unshared + other.tokens_unshared,
            units_unshared: self.units_unshared + other.units_unshared,
        }
    }
}

impl Sum for Workload {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// Cost of a token and of a unit of an image in a branch, in multiplications by weights of its blocks. Attention scores, whose cost
/// grows faster than the number of tokens, are not counted; sharing saves a greater share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Costs {
    token: f64,
    unit: f64,
}

impl Costs {
    /// The costs of a model.
    pub(crate) fn of(config: &ModelConfig) -> Self {
        let linears = net::block_linears(config, Branch::Main);
        let products = |part: Part| -> f64 {
            let of_part = linears.iter().filter(|weight| weight.part == part);
            let sizes = of_part.map(|weight| weight.shape.iter().product::<usize>());
            sizes.sum::<usize>() as f64
        };
        Self {
            token: products(Part::Language),
            unit: products(Part::Vision) * config.patches_per_unit() as f64,
        }
    }

    fn shared(&self, load: Workload) -> f64 {
        load.tokens as f64 * self.token + load.units as f64 * self.unit
    }

    fn unshared(&self, load: Workload) -> f64 {
        load.tokens_unshared as f64 * self.token + load.units_unshared as f64 * self.unit
    }
}

/// The share of the work that sharing saves, over all branches with their loads; `None` if there is no work.
pub(crate) fn work_saved(branches: &[(Costs, Workload)]) -> Option<f64> {
    let total = |work: fn(&Costs, Workload) -> f64| -> f64 {
        branches
            .iter()
            .map(|(costs, load)| work(costs, *load))
            .sum()
    };
    let (shared, unshared) = (total(Costs::shared), total(Costs::unshared));
    (unshared > 0.0).then(|| 1.0 - shared / unshared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_saved_weights_tokens_and_units_by_their_costs() {
        let costs = |token, unit| Costs { token, unit };
        let load = Workload {
            tokens: 60,
            padding: 7,
            units: 1,
            tokens_unshared: 100,
            units_unshared: 2,
        };
        assert_eq!(
            work_saved(&[(costs(1.0, 100.0), load)]),
            Some(1.0 - 160.0 / 300.0)
        );
        let blind = Workload {
            units: 0,
            units_unshared: 0,
            ..load
        };
        let both = [(costs(1.0, 100.0), load), (costs(1.0, 0.0), blind)];
        assert_eq!(work_saved(&both), Some(1.0 - 220.0 / 400.0));
        assert_eq!(work_saved(&[]), None);
    }
}
