//! A linear layer and its arithmetic.

use std::fmt;

use super::dot::{Group, IntDot, Outputs, QUAD, WeightQuad};
use super::rows::PreparedRows;
use crate::panel::{PANEL_OUTPUTS, ROWS, padded};

/// The parts of a linear layer, as bundles hold them.
#[derive(Clone, Copy, Debug)]
pub struct LayerParts<'a> {
    /// Integers of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
    /// Equal groups of inputs that share scales.
    pub groups: usize,
    /// The integer that stands for zero in the inputs.
    pub zero_point: u8,
    /// Weights in the shape of [`packed_shape`], zero where outputs or inputs are missing.
    pub weights: &'a [i8],
    /// The scale of each output's weights of a group: `[panels, groups, outputs of a panel]`.
    pub scales: &'a [f32],
    /// The sum of each output's weights of a group, in the same shape.
    pub sums: &'a [i32],
    /// `[outputs]`.
    pub bias: Option<&'a [f32]>,
}

/// A linear layer: the sum of (integer − zero point) · weight · scale of the row's group · scale of the weights' group, plus
/// the bias.
#[derive(Debug)]
pub struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    groups: usize,
    zero_point: i32,
    /// `[panels, quads]`.
    weights: &'a [WeightQuad],
    /// `[panels, groups]`.
    scales: &'a [[f32; PANEL_OUTPUTS]],
    /// `[panels, groups]`.
    sums: &'a [[i32; PANEL_OUTPUTS]],
    bias: Option<&'a [f32]>,
}

/// The parts of a layer differ in their sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMismatch {
    inputs: usize,
    outputs: usize,
    groups: usize,
    weights: usize,
    scales: usize,
    sums: usize,
    bias: Option<usize>,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            outputs,
            groups,
            weights,
            scales,
            sums,
            bias,
        } = self;
        write!(
            f,
            "{weights} packed weights, {scales} scales and {sums} sums"
        )?;
        if let Some(bias) = bias {
            write!(f, " and a bias of {bias}")?;
        }
        write!(
            f,
            " do not make one layer of {inputs} inputs in {groups} groups and {outputs} outputs"
        )
    }
}

impl std::error::Error for SizeMismatch {}

/// The shape of packed weights: `[panels, quads of inputs, outputs of a panel, inputs of a quad]`.
pub fn packed_shape(inputs: usize, outputs: usize) -> [usize; 4] {
    let (panels, quads) = (outputs.div_ceil(PANEL_OUTPUTS), inputs.div_ceil(QUAD));
    [panels, quads, PANEL_OUTPUTS, QUAD]
}

impl<'a> Layer<'a> {
    /// The layer of these parts.
    ///
    /// # Errors
    /// Their sizes differ.
    pub fn new(parts: LayerParts<'a>) -> Result<Self, SizeMismatch> {
        if !parts.fit() {
            return Err(parts.mismatch());
        }
        Ok(Self {
            inputs: parts.inputs,
            outputs: parts.outputs,
            groups: parts.groups,
            zero_point: parts.zero_point.into(),
            weights: parts.weights.as_chunks().0.as_chunks().0,
            scales: parts.scales.as_chunks().0,
            sums: parts.sums.as_chunks().0,
            bias: parts.bias,
        })
    }

    /// Integers of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of a row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Groups of inputs that share scales.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Writes the outputs of prepared rows.
    #[inline(always)]
    pub(super) fn multiply<D: IntDot>(
        &self,
        dot: D,
        rows: &PreparedRows<D::Inputs>,
        output: &mut [f32],
    ) {
        for first in (0..self.outputs).step_by(PANEL_OUTPUTS) {
            let columns = first..self.outputs.min(first + PANEL_OUTPUTS);
            let bias: [f32; PANEL_OUTPUTS] = padded(self.bias.unwrap_or(&[]), first);
            let blocks = output.chunks_mut(ROWS * self.outputs);
            for (block, output) in blocks.enumerate() {
                let mut products = [[0.0; PANEL_OUTPUTS]; ROWS];
                self.add_products(dot, first / PANEL_OUTPUTS, rows.block(block), &mut products);
                for (output, products) in output.chunks_mut(self.outputs).zip(&products) {
                    let values: [f32; PANEL_OUTPUTS] =
                        std::array::from_fn(|at| products[at] + bias[at]);
                    let output = &mut output[columns.clone()];
                    output.copy_from_slice(&values[..output.len()]);
                }
            }
        }
    }

    /// Adds a panel's products with a block of rows.
    #[inline(always)]
    fn add_products<D: IntDot>(
        &self,
        dot: D,
        panel: usize,
        (inputs, scales): (&[[D::Inputs; ROWS]], &[[f32; ROWS]]),
        to: &mut Outputs,
    ) {
        let quads = inputs.len() / self.groups;
        for (group, input_scales) in scales.iter().enumerate() {
            let index = panel * self.groups + group;
            let group = Group {
                inputs: &inputs[group * quads..][..quads],
                weights: &self.weights[index * quads..][..quads],
                start: self.sums[index].map(|sum| sum.wrapping_mul(-self.zero_point)),
                input_scales,
                weight_scales: &self.scales[index],
            };
            dot.add_scaled(&group, to);
        }
    }
}

impl LayerParts<'_> {
    fn fit(&self) -> bool {
        let [panels, ..] = packed_shape(self.inputs, self.outputs);
        let scales = panels * self.groups * PANEL_OUTPUTS;
        self.weights.len()
            == packed_shape(self.inputs, self.outputs)
                .iter()
                .product::<usize>()
            && (self.groups == 1
                || self.groups > 1 && self.inputs.is_multiple_of(self.groups * QUAD))
            && self.scales.len() == scales
            && self.sums.len() == scales
            && self.bias.is_none_or(|bias| bias.len() == self.outputs)
    }

    fn mismatch(&self) -> SizeMismatch {
        SizeMismatch {
            inputs: self.inputs,
            outputs: self.outputs,
            groups: self.groups,
            weights: self.weights.len(),
            scales: self.scales.len(),
            sums: self.sums.len(),
            bias: self.bias.map(<[f32]>::len),
        }
    }
}
