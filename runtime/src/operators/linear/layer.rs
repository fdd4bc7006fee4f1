//! A linear layer: what bundles have of it, and its arithmetic.

use ort::operator::{ComputeContext, OperatorInput};
use ort::value::{TensorElementType, ValueRef};
use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};

use super::super::extract;
use super::super::integers::{Group, Inputs, Products, ROWS};

/// Inputs that make a layer.
pub(in super::super) const PARTS: usize = 4;

/// The inputs of an operator that make a layer: weights i8 [panels, groups of inputs, outputs of a panel, inputs of a
/// group], scales f32, sums of weights i32 and perhaps a bias f32 [outputs].
pub(in super::super) struct Parts<'a> {
    weights: ValueRef<'a>,
    scales: ValueRef<'a>,
    sums: ValueRef<'a>,
    bias: Option<ValueRef<'a>>,
}

impl<'a> Parts<'a> {
    /// As they are declared: `made` says whether they must be there.
    pub(in super::super) fn declared(
        made: fn(TensorElementType) -> OperatorInput,
    ) -> [OperatorInput; PARTS] {
        [
            made(TensorElementType::Int8),
            made(TensorElementType::Float32),
            made(TensorElementType::Int32),
            OperatorInput::optional(TensorElementType::Float32),
        ]
    }

    /// Those from the input `first` on, if they are there.
    pub(in super::super) fn of(
        context: &'a ComputeContext,
        first: usize,
    ) -> ort::Result<Option<Self>> {
        let count = context.num_inputs()?;
        let input = |index: usize| match index < count {
            true => context.input(index),
            false => Ok(None),
        };
        let [weights, scales, sums] = [input(first)?, input(first + 1)?, input(first + 2)?];
        let (Some(weights), Some(scales), Some(sums)) = (weights, scales, sums) else {
            return Ok(None);
        };
        Ok(Some(Self {
            weights,
            scales,
            sums,
            bias: input(first + 3)?,
        }))
    }

    /// The layer of so many inputs, for integers of which `zero` is the one for zero.
    pub(in super::super) fn layer(&self, zero: u8, inputs: usize) -> ort::Result<Layer<'_>> {
        let (packed, weights) = extract::<i8>(&self.weights)?;
        let (_, scales) = extract::<f32>(&self.scales)?;
        let (_, sums) = extract::<i32>(&self.sums)?;
        let bias = self.bias.as_deref().map(extract::<f32>).transpose()?;
        let bias = bias.map(|(_, bias)| bias);
        let layer = Layer::new(inputs, weights, zero, (scales, sums, bias));
        let expected = [
            layer.panels.len(),
            layer.groups(),
            PANEL_OUTPUTS,
            PANEL_GROUP,
        ];
        if packed != expected.map(|size| size as i64)
            || sums.len() != scales.len()
            || bias.is_some_and(|bias| bias.len() != scales.len())
        {
            return Err(ort::Error::new(format!(
                "weights {packed:?}, {} scales and {} sums do not belong together, nor to rows of {inputs}",
                scales.len(),
                sums.len()
            )));
        }
        Ok(layer)
    }
}

/// A linear layer.
pub(in super::super) struct Layer<'a> {
    pub(in super::super) inputs: usize,
    pub(in super::super) outputs: usize,
    /// [panels, groups].
    weights: &'a [Group],
    panels: Vec<Panel>,
}

/// What belongs to a panel's outputs besides their weights; what is missing of the last one is zero.
struct Panel {
    /// What sums begin with: the products of weights and the integer for zero are taken off.
    start: [i32; PANEL_OUTPUTS],
    scales: [f32; PANEL_OUTPUTS],
    bias: [f32; PANEL_OUTPUTS],
}

impl<'a> Layer<'a> {
    pub(super) fn new(
        inputs: usize,
        weights: &'a [i8],
        zero: u8,
        (scales, sums, bias): (&[f32], &[i32], Option<&[f32]>),
    ) -> Self {
        let panel = |first| Panel {
            start: some(sums, first).map(|sum: i32| sum.wrapping_mul(-i32::from(zero))),
            scales: some(scales, first),
            bias: some(bias.unwrap_or(&[]), first),
        };
        Self {
            inputs,
            outputs: scales.len(),
            weights: weights.as_chunks().0.as_chunks().0,
            panels: (0..scales.len())
                .step_by(PANEL_OUTPUTS)
                .map(panel)
                .collect(),
        }
    }

    /// Groups of inputs; of the last one some may be missing.
    fn groups(&self) -> usize {
        self.inputs.div_ceil(PANEL_GROUP)
    }

    /// Rows of integers as they are multiplied: [blocks of rows, groups]. What is missing of the last ones is zero.
    #[inline(always)]
    pub(in super::super) fn grouped(&self, integers: &[u8]) -> Vec<Inputs> {
        let groups = self.groups();
        let rows = integers.chunks(self.inputs.max(1));
        let mut grouped = vec![[[0; PANEL_GROUP]; ROWS]; rows.len().div_ceil(ROWS) * groups];
        for (index, row) in rows.enumerate() {
            let block = &mut grouped[index / ROWS * groups..][..groups];
            for (group, integers) in block.iter_mut().zip(row.chunks(PANEL_GROUP)) {
                group[index % ROWS][..integers.len()].copy_from_slice(integers);
            }
        }
        grouped
    }

    /// What comes out for rows with these steps.
    #[inline(always)]
    pub(in super::super) fn multiply<P: Products>(
        &self,
        rows: &[Inputs],
        steps: &[f32],
        output: &mut [f32],
    ) {
        let groups = self.groups();
        for (index, panel) in self.panels.iter().enumerate() {
            let weights = &self.weights[index * groups..][..groups];
            let first = index * PANEL_OUTPUTS;
            let columns = first..self.outputs.min(first + PANEL_OUTPUTS);
            let blocks = output.chunks_mut(ROWS * self.outputs);
            for ((number, output), steps) in blocks.enumerate().zip(steps.chunks(ROWS)) {
                let sums = P::sums(&panel.start, &rows[number * groups..][..groups], weights);
                let rows = output.chunks_mut(self.outputs).zip(steps);
                for ((output, step), sums) in rows.zip(&sums) {
                    let numbers: [f32; PANEL_OUTPUTS] = std::array::from_fn(|column| {
                        sums[column] as f32 * step * panel.scales[column] + panel.bias[column]
                    });
                    let output = &mut output[columns.clone()];
                    output.copy_from_slice(&numbers[..output.len()]);
                }
            }
        }
    }
}

/// Numbers from `first` on; what is missing of them is zero.
fn some<T: Copy + Default, const N: usize>(numbers: &[T], first: usize) -> [T; N] {
    let numbers = numbers.get(first..).unwrap_or(&[]);
    std::array::from_fn(|index| numbers.get(index).copied().unwrap_or_default())
}
