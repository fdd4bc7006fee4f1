//! The duration of a run of the reward graph, as a function of its layout.
//!
//! Attention over a row is dense in floats, so a row of T tokens computes T² pairs whatever their documents and branches. A
//! run also reads every weight once, which is why many short runs are slow:
//!
//! ```text
//! seconds(rows, T) = layers · layer + weights · weight + rows · T · 2 · weights · linear + rows · T² · attention FLOPs · attention
//! ```

use serde::{Deserialize, Serialize};

use crate::config::TextConfig;
use crate::kinds::Precision;

/// The amount of computation of a language model. The default is InternVL2-1B's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFlops {
    /// Its layers.
    pub layers: u64,
    /// Weights of their linear layers: every token is multiplied by each once.
    pub weights: u64,
    /// Floating-point operations of all layers' attention for one pair of tokens.
    pub attention: u64,
}

impl ModelFlops {
    /// The amount of computation of this language model.
    pub fn of(text: &TextConfig) -> Self {
        let (width, key_width) = (text.attention_width(), text.key_width());
        let attention = 2 * text.hidden * (width + key_width);
        let layer = attention + 3 * text.hidden * text.ffn;
        Self {
            layers: text.layers as u64,
            weights: (text.layers * layer) as u64,
            attention: (text.layers * 4 * width) as u64,
        }
    }
}

impl Default for ModelFlops {
    fn default() -> Self {
        Self {
            layers: 24,
            weights: 357_826_560,
            attention: 86_016,
        }
    }
}

/// Seconds of each part of the work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// One layer of a run, however small.
    pub layer: f64,
    /// Reading one weight.
    pub weight: f64,
    /// One floating-point operation of a linear layer.
    pub linear: f64,
    /// One floating-point operation of attention.
    pub attention: f64,
}

impl Rates {
    /// Rates of this precision on two cores of an AMD EPYC with AVX-512, measured by the runtime's example
    /// `rates` with CPU bundles of InternVL2-1B's widths; the rate of layers with the demo's model, which has few weights.
    /// Only their ratios decide a layout, and they are constants, so that a layout is a function of the input alone; for
    /// GPUs they are a guess.
    pub fn of(precision: Precision) -> Self {
        // In integers, attention computes only visible pairs: the same number in every layout.
        let (layer, weight, linear, attention) = match precision {
            Precision::Fp32 | Precision::Fp16 | Precision::Bf16 => {
                (4.7e-5, 8.6e-11, 3.8e-12, 5.9e-12)
            }
            Precision::Int8 => (5.6e-5, 6.7e-11, 1.25e-12, 0.0),
            Precision::Int4 => (6.8e-5, 6.5e-11, 3.2e-12, 0.0),
        };
        Self {
            layer,
            weight,
            linear,
            attention,
        }
    }
}

/// The cost of runs of one model, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    run: f64,
    token: f64,
    pair: f64,
}

impl Cost {
    /// The cost of this work at these rates.
    pub fn new(work: ModelFlops, rates: Rates) -> Self {
        let (layers, weights) = (work.layers as f64, work.weights as f64);
        Self {
            run: layers * rates.layer + weights * rates.weight,
            token: 2.0 * weights * rates.linear,
            pair: work.attention as f64 * rates.attention,
        }
    }

    /// Seconds of a run of `rows` rows of `tokens` tokens.
    pub fn run(&self, rows: usize, tokens: usize) -> f64 {
        self.run + self.rows(rows, tokens)
    }

    /// Seconds of further rows in a run.
    pub(super) fn rows(&self, rows: usize, tokens: usize) -> f64 {
        let (rows, tokens) = (rows as f64, tokens as f64);
        rows * tokens * (self.token + tokens * self.pair)
    }
}
