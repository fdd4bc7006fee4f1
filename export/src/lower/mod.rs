//! How ops become operators. Those that are more than a node or two are here, and so is what differs by target and
//! precision.
//!
//! Quantized are only the weights of linear layers, up to where the last layer goes on with the few rows that are read;
//! attention's products are bf16, all else is f32.
//!
//! In 16 bits, only what costs time and space is narrow: the weights of linear layers and the embedding table, and what
//! is computed between them (activations, rotary positions, attention's products). Wide stay the residual stream with
//! everything that is added to it, norms, softmax, the patch embedding, and the score head; a linear layer casts its
//! input. Sums over dozens of layers would lose bits, and the few huge values of a residual stream leave fp16's range.

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod patches;
pub(crate) mod rope;

use anyhow::Result;
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::SCORE_HEAD;

use crate::offer;
use crate::proto::DataType;
use linear::Products;

/// What is computed in f32 in every precision.
pub(crate) const WIDE: DataType = DataType::F32;

/// How graphs of one target and precision are written.
#[derive(Clone, Copy, Debug)]
pub struct Lowering {
    target: Target,
    products: Products,
    probe_tolerance: f64,
    /// Numbers of an attention head, where they are known.
    head: Option<usize>,
}

impl Lowering {
    /// # Errors
    /// A combination that is not offered: the message lists those that are.
    pub fn new(target: Target, precision: Precision) -> Result<Self> {
        offer::check(target, precision)?;
        // fp32: ten times what two correct evaluations differ by. The others: twice the largest of 200 differences to
        // fp32, 7.4e-3 and 6.8e-2, of a model so small that hardly anything averages out (a step of bf16 is 8 of fp16).
        // Integers: the same over six such models of every family, 1.7e-1 and 1.4; in 4 bits these models' rewards, of a
        // deviation of 0.6, are hardly those of fp32 any more, and the probes say little beyond that the bundle runs.
        let (products, probe_tolerance) = match precision {
            Precision::Fp32 => (Products::Float(DataType::F32), 1e-4),
            Precision::Fp16 => (Products::Float(DataType::F16), 1.5e-2),
            Precision::Bf16 => (Products::Float(DataType::Bf16), 1.4e-1),
            Precision::Int8 => (Products::Int8, 3.5e-1),
            Precision::Int4 => (Products::Int4, 2.9),
        };
        Ok(Self {
            target,
            products,
            probe_tolerance,
            head: None,
        })
    }

    /// The same for attention heads of `size` numbers.
    pub fn of_heads(self, size: usize) -> Self {
        Self {
            head: Some(size),
            ..self
        }
    }

    /// How far a probe's reward may be from the trainer's, times max(1, |reward|).
    pub(crate) fn probe_tolerance(&self) -> f64 {
        self.probe_tolerance
    }

    /// Element type of an embedding table.
    pub(crate) fn table(&self) -> DataType {
        self.products.element()
    }

    /// How the linear layer of that name is computed.
    pub(crate) fn linear(&self, name: &str) -> Products {
        match SCORE_HEAD.strip_suffix(".weight") {
            Some(head) if head == name => Products::Float(WIDE),
            _ => self.products,
        }
    }

    /// The same for the few rows that are read: integers would save hardly any time on them, but so late in the model their
    /// error goes straight into the reward.
    pub(crate) fn linear_of_few(&self, name: &str) -> Products {
        match self.linear(name) {
            Products::Float(element) => Products::Float(element),
            Products::Int8 | Products::Int4 => Products::Float(WIDE),
        }
    }

    /// Whether ONNX Runtime's own operators for the processor may be used.
    pub(crate) fn is_for_the_processor(&self) -> bool {
        self.target == Target::Cpu
    }

    /// Whether attention is our runtime's operator, which multiplies in bf16: beside products of integers it loses nothing.
    pub(crate) fn has_narrow_attention(&self) -> bool {
        matches!(self.products, Products::Int8 | Products::Int4)
    }

    /// Whether attention over a forest is `GroupQueryAttention`, which takes heads of whole vectors of eight only.
    pub(crate) fn has_causal_attention(&self) -> bool {
        self.is_for_the_processor() && self.head.is_some_and(|size| size.is_multiple_of(8))
    }

    /// Whether attention takes [rows, heads, tokens, head] instead of [rows, tokens, heads·head]: TensorRT's list of
    /// operators has it with four axes only.
    pub(crate) fn heads_are_an_axis(&self) -> bool {
        self.target == Target::Tensorrt
    }
}
