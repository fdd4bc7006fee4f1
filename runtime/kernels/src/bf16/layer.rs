//! A linear layer and its arithmetic.

use std::fmt;

use super::product::{PANEL_GROUP, PairDot, RowPairs, Sums, WeightPairs};
use crate::panel::{PANEL_OUTPUTS, ROWS, padded};

/// The parts of a linear layer, as bundles hold them.
#[derive(Clone, Copy, Debug)]
pub struct LayerParts<'a> {
    /// Inputs of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
    /// The bits of bf16 weights in the shape of [`packed_shape`], zero where outputs or inputs are missing.
    pub weights: &'a [u16],
    /// `[outputs]`.
    pub bias: Option<&'a [f32]>,
}

/// A linear layer: Σ input · weight + bias.
#[derive(Debug)]
pub struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    /// `[panels, pairs of inputs]`.
    weights: &'a [WeightPairs],
    /// Of each panel; zero for outputs that are missing of the last one.
    bias: Vec<[f32; PANEL_OUTPUTS]>,
}

/// The parts of a layer differ in their sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMismatch {
    /// Inputs of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
    /// Packed weights.
    pub weights: usize,
    /// Values of the bias.
    pub bias: Option<usize>,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            outputs,
            weights,
            bias,
        } = self;
        let bias = bias.map_or("no bias".to_owned(), |count| format!("a bias of {count}"));
        write!(
            f,
            "{weights} packed weights and {bias} do not make one layer of {inputs} inputs and {outputs} outputs"
        )
    }
}

impl std::error::Error for SizeMismatch {}

/// The shape of packed weights: `[panels, groups of inputs, outputs of a panel, inputs of a group]`.
pub fn packed_shape(inputs: usize, outputs: usize) -> [usize; 4] {
    let panels = outputs.div_ceil(PANEL_OUTPUTS);
    let groups = inputs.div_ceil(PANEL_GROUP);
    [panels, groups, PANEL_OUTPUTS, PANEL_GROUP]
}

impl<'a> Layer<'a> {
    /// The layer of these parts.
    ///
    /// # Errors
    /// Their sizes differ.
    pub fn new(parts: LayerParts<'a>) -> Result<Self, SizeMismatch> {
        let LayerParts {
            inputs,
            outputs,
            weights,
            bias,
        } = parts;
        if weights.len() != packed_shape(inputs, outputs).iter().product::<usize>()
            || bias.is_some_and(|bias| bias.len() != outputs)
        {
            return Err(SizeMismatch {
                inputs,
                outputs,
                weights: weights.len(),
                bias: bias.map(<[f32]>::len),
            });
        }
        let panels = (0..outputs).step_by(PANEL_OUTPUTS);
        let bias = bias.unwrap_or(&[]);
        Ok(Self {
            inputs,
            outputs,
            weights: weights.as_chunks().0.as_chunks().0,
            bias: panels.map(|first| padded(bias, first)).collect(),
        })
    }

    /// Inputs of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of a row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panel's outputs of a block of prepared rows.
    #[inline(always)]
    pub(super) fn sums<D: PairDot>(&self, dot: D, panel: usize, rows: &[RowPairs]) -> Sums {
        let pairs = self.inputs.div_ceil(2);
        let mut sums = [self.bias[panel]; ROWS];
        dot.add_products(rows, &self.weights[panel * pairs..][..pairs], &mut sums);
        sums
    }
}
