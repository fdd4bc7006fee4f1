//! How much there is to compute, and how much of it sharing saves.

use std::iter::Sum;
use std::ops::Add;

use seeward_models::config::Config as ModelConfig;
use seeward_models::net::{self, Branch};

/// What a branch's network reads in forward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tokens of conversations.
    pub tokens: usize,
    /// Tokens that only fill rows up.
    pub padding: usize,
    /// Tiles of images.
    pub tiles: usize,
    /// Tokens, if every conversation were computed apart.
    pub tokens_apart: usize,
    /// Tiles, if they were.
    pub tiles_apart: usize,
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            padding: self.padding + other.padding,
            tiles: self.tiles + other.tiles,
            tokens_apart: self.tokens_apart + other.tokens_apart,
            tiles_apart: self.tiles_apart + other.tiles_apart,
        }
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// What a token and a tile cost a branch, in products with weights of its blocks. Attention itself, which grows faster
/// than the number of tokens, is left out: sharing saves more of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    token: f64,
    tile: f64,
}

impl Costs {
    /// Of a model.
    pub fn of(config: &ModelConfig) -> Self {
        let linears = net::block_linears(config, Branch::Main);
        let products = |part: &str| -> f64 {
            let of_part = linears
                .iter()
                .filter(|weight| weight.name.starts_with(part));
            let sizes = of_part.map(|weight| weight.shape.iter().product::<usize>());
            sizes.sum::<usize>() as f64
        };
        let patches = config.patches_per_side().pow(2) + 1;
        Self {
            token: products("language_model."),
            tile: products("vision_model.") * patches as f64,
        }
    }

    fn shared(&self, load: Load) -> f64 {
        load.tokens as f64 * self.token + load.tiles as f64 * self.tile
    }

    fn apart(&self, load: Load) -> f64 {
        load.tokens_apart as f64 * self.token + load.tiles_apart as f64 * self.tile
    }
}

/// The share of the work that sharing saves, over branches with their loads; `None` where there is no work.
pub fn work_saved(branches: &[(Costs, Load)]) -> Option<f64> {
    let total = |work: fn(&Costs, Load) -> f64| -> f64 {
        branches
            .iter()
            .map(|(costs, load)| work(costs, *load))
            .sum()
    };
    let (shared, apart) = (total(Costs::shared), total(Costs::apart));
    (apart > 0.0).then(|| 1.0 - shared / apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_tiles_weigh_by_what_they_cost() {
        let costs = |token, tile| Costs { token, tile };
        let load = Load {
            tokens: 60,
            padding: 7,
            tiles: 1,
            tokens_apart: 100,
            tiles_apart: 2,
        };
        assert_eq!(
            work_saved(&[(costs(1.0, 100.0), load)]),
            Some(1.0 - 160.0 / 300.0)
        );
        let blind = Load {
            tiles: 0,
            tiles_apart: 0,
            ..load
        };
        let both = [(costs(1.0, 100.0), load), (costs(1.0, 0.0), blind)];
        assert_eq!(work_saved(&both), Some(1.0 - 220.0 / 400.0));
        assert_eq!(work_saved(&[]), None);
    }
}
