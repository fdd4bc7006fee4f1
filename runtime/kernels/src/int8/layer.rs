//! A linear layer and its arithmetic.

use std::fmt;

use super::dot::{IntDot, PANEL_GROUP, WeightGroup};
use crate::panel::{PANEL_OUTPUTS, ROWS, padded};

/// The parts of a linear layer, as bundles hold them.
#[derive(Clone, Copy, Debug)]
pub struct LayerParts<'a> {
    /// Inputs of a row.
    pub inputs: usize,
    /// The integer that stands for zero in the inputs.
    pub zero_point: u8,
    /// Weights in the shape of [`packed_shape`], zero where outputs or inputs are missing.
    pub weights: &'a [i8],
    /// The scale of each output's weights: `[outputs]`.
    pub scales: &'a [f32],
    /// The sum of each output's weights: `[outputs]`.
    pub sums: &'a [i32],
    /// `[outputs]`.
    pub bias: Option<&'a [f32]>,
}

/// A linear layer: Σ (integer − zero point) · weight · row's scale · output's scale + bias.
#[derive(Debug)]
pub struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    /// `[panels, groups]`.
    weights: &'a [WeightGroup],
    panels: Vec<Panel>,
}

/// The rest of a panel's outputs; those missing of the last panel are zero.
#[derive(Debug)]
struct Panel {
    /// Where sums start: the products of weights and the zero point are subtracted beforehand.
    start: [i32; PANEL_OUTPUTS],
    scales: [f32; PANEL_OUTPUTS],
    bias: [f32; PANEL_OUTPUTS],
}

/// The parts of a layer differ in their sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMismatch {
    /// Inputs of a row.
    pub inputs: usize,
    /// Packed weights.
    pub weights: usize,
    /// Scales.
    pub scales: usize,
    /// Sums of weights.
    pub sums: usize,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            weights,
            scales,
            sums,
        } = self;
        write!(
            f,
            "{weights} packed weights, {scales} scales and {sums} sums do not make one layer of {inputs} inputs"
        )
    }
}

impl std::error::Error for SizeMismatch {}

/// The shape of packed weights: `[panels, groups of inputs, outputs of a panel, inputs of a group]`.
pub fn packed_shape(inputs: usize, outputs: usize) -> [usize; 4] {
    let (panels, groups) = (
        outputs.div_ceil(PANEL_OUTPUTS),
        inputs.div_ceil(PANEL_GROUP),
    );
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
            weights,
            scales,
            sums,
            bias,
            ..
        } = parts;
        let outputs = scales.len();
        if weights.len() != packed_shape(inputs, outputs).iter().product::<usize>()
            || sums.len() != outputs
            || bias.is_some_and(|bias| bias.len() != outputs)
        {
            return Err(SizeMismatch {
                inputs,
                weights: weights.len(),
                scales: outputs,
                sums: sums.len(),
            });
        }
        let panels = (0..outputs).step_by(PANEL_OUTPUTS);
        Ok(Self {
            inputs,
            outputs,
            weights: weights.as_chunks().0.as_chunks().0,
            panels: panels.map(|first| Panel::new(&parts, first)).collect(),
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

    fn groups(&self) -> usize {
        self.inputs.div_ceil(PANEL_GROUP)
    }

    /// Rows of integers as the products read them: `[blocks of rows, groups]`, padded with zeros.
    #[inline(always)]
    pub(super) fn prepare<D: IntDot>(&self, integers: &[u8], into: &mut Vec<[D::Inputs; ROWS]>) {
        let groups = self.groups();
        let rows = integers.chunks(self.inputs.max(1));
        into.clear();
        let blocks = rows.len().div_ceil(ROWS);
        into.resize(blocks * groups, [D::prepare([0; PANEL_GROUP]); ROWS]);
        for (index, row) in rows.enumerate() {
            let block = &mut into[index / ROWS * groups..][..groups];
            let (whole, rest) = row.as_chunks::<PANEL_GROUP>();
            for (group, bytes) in block.iter_mut().zip(whole) {
                group[index % ROWS] = D::prepare(*bytes);
            }
            if !rest.is_empty() {
                let mut bytes = [0; PANEL_GROUP];
                bytes[..rest.len()].copy_from_slice(rest);
                block[whole.len()][index % ROWS] = D::prepare(bytes);
            }
        }
    }

    /// Writes the outputs of prepared rows with these scales.
    #[inline(always)]
    pub(super) fn multiply<D: IntDot>(
        &self,
        dot: D,
        rows: &[[D::Inputs; ROWS]],
        scales: &[f32],
        output: &mut [f32],
    ) {
        let groups = self.groups();
        for (index, panel) in self.panels.iter().enumerate() {
            let weights = &self.weights[index * groups..][..groups];
            let first = index * PANEL_OUTPUTS;
            let columns = first..self.outputs.min(first + PANEL_OUTPUTS);
            let blocks = output.chunks_mut(ROWS * self.outputs);
            for ((block, output), scales) in blocks.enumerate().zip(scales.chunks(ROWS)) {
                let sums = dot.sums(&panel.start, &rows[block * groups..][..groups], weights);
                let rows = output.chunks_mut(self.outputs).zip(scales);
                for ((output, scale), sums) in rows.zip(&sums) {
                    let values = panel.scaled(sums, *scale);
                    let output = &mut output[columns.clone()];
                    output.copy_from_slice(&values[..output.len()]);
                }
            }
        }
    }
}

impl Panel {
    fn new(parts: &LayerParts, first: usize) -> Self {
        let zero_point = i32::from(parts.zero_point);
        Self {
            start: padded(parts.sums, first).map(|sum: i32| sum.wrapping_mul(-zero_point)),
            scales: padded(parts.scales, first),
            bias: padded(parts.bias.unwrap_or(&[]), first),
        }
    }

    /// A row's outputs from its sums.
    #[inline(always)]
    fn scaled(&self, sums: &[i32; PANEL_OUTPUTS], scale: f32) -> [f32; PANEL_OUTPUTS] {
        std::array::from_fn(|at| sums[at] as f32 * scale * self.scales[at] + self.bias[at])
    }
}
