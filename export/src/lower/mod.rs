//! How ops of the network become ONNX operators, by target and precision. Ops of more than two nodes are here, one module
//! each.
//!
//! Only the weights of linear layers are quantized, up to the rows that the network reads out; attention of quantized
//! bundles multiplies in bf16, everything else is f32. In bf16 for the CPU the same layers, and the embedding table, are in
//! bf16: by operators of Seeward's runtime, with f32 between them.
//!
//! In 16 bits elsewhere, only operations that dominate time and memory are narrow: the weights of linear layers and the embedding
//! table, and the operations between them (activations, rotary positions, attention). The residual stream with all its
//! additions, norms, softmax, the patch embedding and the score head stay wide; a linear layer casts its input. Sums over
//! dozens of layers would lose bits, and the few huge values of a residual stream exceed fp16's range.

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod patches;
pub(crate) mod rope;
pub(crate) mod windows;

use anyhow::{Result, bail};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::Part;
use seeward_models::probe::LOSSY_TOLERANCE;

use crate::data_type::DataType;
use crate::support;

/// The element type of f32 computations in every precision.
pub(crate) const WIDE: DataType = DataType::F32;

/// The arithmetic of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Products {
    /// Products of floats.
    Float(DataType),
    /// Products of bf16 weights with inputs rounded to bf16, by operators of Seeward's runtime; sums and outputs are f32.
    Bf16,
    /// 8-bit weights and inputs, rotated, with scales by group. Every row of inputs has its own: scales for all rows would
    /// make a response's reward depend on its batch.
    Int8,
}

impl Products {
    /// Element type of the bias and of the outputs.
    pub(crate) fn element(self) -> DataType {
        match self {
            Self::Float(element) => element,
            Self::Bf16 | Self::Int8 => WIDE,
        }
    }

    /// Whether an operator computes a layer with the nonlinearity after it.
    pub(crate) fn fuses_hidden(self) -> bool {
        matches!(self, Self::Bf16 | Self::Int8)
    }

    /// The same over the few rows that the network reads out: narrow weights would save hardly any time there, and their
    /// error would reach the reward directly.
    fn of_readout(self) -> Self {
        Self::Float(self.element())
    }
}

/// The operators of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttentionKind {
    /// ONNX's `Attention` over [rows, tokens, heads·head]. It computes and keeps the products of all pairs of tokens.
    Standard,
    /// The same over [rows, heads, tokens, head]: TensorRT supports it with four axes only.
    StandardByHead,
    /// ONNX Runtime's CPU operators: `MultiHeadAttention` where all tokens see each other, which keeps a block of
    /// products at a time; over a forest the standard operator, which within windows takes each as a row.
    Cpu,
    /// The same, with `GroupQueryAttention` over a forest, which skips later tokens.
    CpuCausal,
    /// `ForestAttention` of Seeward's runtime, which skips every token that is not visible, in windows too. It multiplies in bf16, which
    /// costs no accuracy next to linear layers in bf16 or integers.
    Forest,
}

impl AttentionKind {
    fn of(target: Target, products: Products) -> Self {
        match (target, products) {
            (_, Products::Bf16 | Products::Int8) => Self::Forest,
            (Target::Cpu, _) => Self::Cpu,
            (Target::Tensorrt, _) => Self::StandardByHead,
            (Target::Portable | Target::Cuda, _) => Self::Standard,
        }
    }

    /// The kind for attention heads of `size` elements: `GroupQueryAttention` takes multiples of eight only.
    fn of_heads(self, size: usize) -> Self {
        match self {
            Self::Cpu if size.is_multiple_of(8) => Self::CpuCausal,
            kind => kind,
        }
    }
}

/// Measured on SmolLM2-135M with inputs in bf16, rotated weights and a scale per 32 of them: the margins' error (RMS) is 1.07
/// times the margins' own size, nine times PyTorch's in bf16.
const INT4_WITHDRAWN: &str = "int4: withdrawn, because on trained weights its errors are as large as the margins between \
    responses; use --quantize int8";

/// How graphs of one target and precision are written.
#[derive(Clone, Copy, Debug)]
pub struct Lowering {
    products: Products,
    attention: AttentionKind,
    probe_tolerance: f64,
}

impl Lowering {
    /// The lowering of a target and precision.
    ///
    /// # Errors
    /// An unsupported combination; the message lists the supported ones.
    pub fn new(target: Target, precision: Precision) -> Result<Self> {
        // fp32: ten times the difference of two correct evaluations. fp16: twice the largest of 200 differences from fp32,
        // 7.4e-3, of a model so small that errors hardly average out.
        let (products, probe_tolerance) = match precision {
            Precision::Bf16 if target == Target::Cpu => (Products::Bf16, LOSSY_TOLERANCE),
            Precision::Fp32 => (Products::Float(DataType::F32), 1e-4),
            Precision::Fp16 => (Products::Float(DataType::F16), 1.5e-2),
            Precision::Bf16 => (Products::Float(DataType::Bf16), LOSSY_TOLERANCE),
            Precision::Int8 => (Products::Int8, LOSSY_TOLERANCE),
            Precision::Int4 => bail!("{INT4_WITHDRAWN}"),
        };
        support::check(target, precision)?;
        Ok(Self {
            products,
            attention: AttentionKind::of(target, products),
            probe_tolerance,
        })
    }

    /// The same for attention heads of `size` elements.
    pub fn of_heads(self, size: usize) -> Self {
        Self {
            attention: self.attention.of_heads(size),
            ..self
        }
    }

    /// Tolerance of a probe's reward, in multiples of max(1, |reward|) unless the precision is lossy.
    pub(crate) fn probe_tolerance(&self) -> f64 {
        self.probe_tolerance
    }

    /// Element type of an embedding table.
    pub(crate) fn table(&self) -> DataType {
        match self.products {
            Products::Bf16 => DataType::Bf16,
            products => products.element(),
        }
    }

    /// The arithmetic of the linear layer of that name, over all rows.
    pub(crate) fn linear(&self, name: &str) -> Products {
        // The head's own name, or that of one of its layers.
        match name.split('.').next() == Some(Part::Head.module()) {
            true => Products::Float(WIDE),
            false => self.products,
        }
    }

    /// The arithmetic of the same layer over the few rows that the network reads out.
    pub(crate) fn linear_of_readout(&self, name: &str) -> Products {
        self.linear(name).of_readout()
    }

    /// The operators of attention.
    pub(crate) fn attention(&self) -> AttentionKind {
        self.attention
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_fits_the_target_the_precision_and_the_heads() {
        use AttentionKind::*;
        for (target, precision, without_heads, of_heads_of_8) in [
            (Target::Portable, Precision::Fp16, Standard, Standard),
            (Target::Cuda, Precision::Bf16, Standard, Standard),
            (
                Target::Tensorrt,
                Precision::Fp32,
                StandardByHead,
                StandardByHead,
            ),
            (Target::Cpu, Precision::Fp32, Cpu, CpuCausal),
            (Target::Cpu, Precision::Bf16, Forest, Forest),
            (Target::Cpu, Precision::Int8, Forest, Forest),
        ] {
            let lowering = Lowering::new(target, precision).unwrap();
            assert_eq!(lowering.attention(), without_heads);
            assert_eq!(lowering.of_heads(12).attention(), without_heads);
            assert_eq!(lowering.of_heads(8).attention(), of_heads_of_8);
        }
    }
}
