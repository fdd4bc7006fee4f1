//! Rotary position tables, made on the host so that length-dependent scaling needs no new graph.

use serde::{Deserialize, Serialize};

use crate::config::TextConfig;

/// What the tables depend on; stored in the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeSettings {
    /// Base of the frequencies.
    pub theta: f64,
    /// Width of one attention head.
    pub head_dim: usize,
}

/// Cosines and sines, row-major f32 [entries, head_dim / 2].
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTables {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// Rows: positions 0 to entries − 1.
    pub entries: usize,
}

impl RopeSettings {
    /// The settings of a language model.
    pub fn of(config: &TextConfig) -> Self {
        Self {
            theta: config.rope_theta,
            head_dim: config.head_dim(),
        }
    }

    /// Tables for positions below `entries`: angle = position / theta^(2i/head_dim), every step in f32 as the
    /// published code computes it.
    pub fn tables(&self, entries: usize) -> RopeTables {
        let frequencies: Vec<f32> = (0..self.head_dim / 2)
            .map(|pair| self.frequency(pair))
            .collect();
        let angles = || (0..entries).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        RopeTables {
            cos: angles().map(f32::cos).collect(),
            sin: angles().map(f32::sin).collect(),
            entries,
        }
    }

    fn frequency(&self, pair: usize) -> f32 {
        let exponent = (2 * pair) as f32 / self.head_dim as f32;
        1.0 / (self.theta as f32).powf(exponent)
    }
}
