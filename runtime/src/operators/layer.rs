//! Inputs of the operators with linear layers.

use std::borrow::Cow;

use ort::operator::{ComputeContext, KernelContext, OperatorInput};
use ort::value::{TensorElementType, ValueRef};
use seeward_kernels::PANEL_OUTPUTS;
use seeward_kernels::int8::{self, Layer, LayerParts, QuantizedRows, packed_shape};
use seeward_models::contract;

use super::engine::{byte, extract, required, with_last};

// The layout of packed weights is the bundle format's; the kernels are written for it.
const _: () = assert!(contract::PANEL_OUTPUTS == PANEL_OUTPUTS);
const _: () = assert!(contract::QUAD == int8::QUAD);
const _: () = assert!(contract::GROUP == int8::GROUP);

/// Inputs that make a layer.
pub(super) const PARTS: usize = 4;

/// What an operator's attributes say of its layers.
pub(super) struct LayerKind {
    /// The integer that stands for zero in the inputs.
    zero_point: u8,
    /// Outputs of layers whose weights have scales by group. Without it, weights have a scale for each output.
    outputs: Option<usize>,
}

impl LayerKind {
    pub(super) fn of(context: &KernelContext) -> ort::Result<Self> {
        let outputs = context.get::<i64>("outputs");
        let wrong = |_| ort::Error::new(format!("outputs: expected a size, got {outputs:?}"));
        Ok(Self {
            zero_point: byte(context, "zero", 0)?,
            outputs: outputs.map(usize::try_from).transpose().map_err(wrong)?,
        })
    }
}

/// The inputs of an operator that make a layer: packed weights i8, scales f32, sums of weights i32 and an optional bias f32
/// `[outputs]`.
pub(super) struct Parts<'a> {
    weights: ValueRef<'a>,
    scales: ValueRef<'a>,
    sums: ValueRef<'a>,
    bias: Option<ValueRef<'a>>,
}

impl<'a> Parts<'a> {
    /// Their declarations; `kind` is `required` or `optional`.
    pub(super) fn declared(kind: fn(TensorElementType) -> OperatorInput) -> [OperatorInput; PARTS] {
        [
            kind(TensorElementType::Int8),
            kind(TensorElementType::Float32),
            kind(TensorElementType::Int32),
            OperatorInput::optional(TensorElementType::Float32),
        ]
    }

    /// Those from the input `first` on, if they are there.
    pub(super) fn of(context: &'a ComputeContext, first: usize) -> ort::Result<Option<Self>> {
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

    /// The tensors of a layer of this kind for rows of `inputs` integers.
    pub(super) fn tensors(&self, kind: &LayerKind, inputs: usize) -> ort::Result<Tensors<'_>> {
        let (shape, weights) = extract::<i8>(&self.weights)?;
        let (_, scales) = extract::<f32>(&self.scales)?;
        let (_, sums) = extract::<i32>(&self.sums)?;
        let bias = self.bias.as_deref().map(extract::<f32>).transpose()?;
        let outputs = kind.outputs.unwrap_or(scales.len());
        let expected = packed_shape(inputs, outputs).map(|size| size as i64);
        if shape != expected {
            let problem = format!("weights: expected the shape {expected:?}, got {shape:?}");
            return Err(ort::Error::new(problem));
        }
        let by_group = kind.outputs.is_some();
        Ok(Tensors {
            inputs,
            outputs,
            groups: if by_group { inputs / int8::GROUP } else { 1 },
            zero_point: kind.zero_point,
            weights,
            scales: if by_group {
                scales.into()
            } else {
                in_panels(scales)
            },
            sums: if by_group {
                sums.into()
            } else {
                in_panels(sums)
            },
            bias: bias.map(|(_, bias)| bias),
        })
    }
}

/// A value for each output `[outputs]` as panels take them, padded with zeros.
fn in_panels<T: Copy + Default>(values: &[T]) -> Cow<'_, [T]> {
    let mut panels = values.to_vec();
    panels.resize(values.len().next_multiple_of(PANEL_OUTPUTS), T::default());
    panels.into()
}

/// The tensors of a layer in the layout of the kernels.
pub(super) struct Tensors<'a> {
    inputs: usize,
    outputs: usize,
    groups: usize,
    zero_point: u8,
    weights: &'a [i8],
    scales: Cow<'a, [f32]>,
    sums: Cow<'a, [i32]>,
    bias: Option<&'a [f32]>,
}

impl Tensors<'_> {
    pub(super) fn layer(&self) -> ort::Result<Layer<'_>> {
        let parts = LayerParts {
            inputs: self.inputs,
            outputs: self.outputs,
            groups: self.groups,
            zero_point: self.zero_point,
            weights: self.weights,
            scales: &self.scales,
            sums: &self.sums,
            bias: self.bias,
        };
        Layer::new(parts).map_err(|e| ort::Error::new(e.to_string()))
    }
}

/// Rows of integers with their scales, those of a group or of the whole row.
pub(super) struct Rows<'a> {
    shape: Vec<i64>,
    pub(super) inputs: usize,
    pub(super) quantized: QuantizedRows<'a>,
}

impl<'a> Rows<'a> {
    pub(super) fn declared() -> [OperatorInput; 2] {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorInput::required)
    }

    pub(super) fn values(context: &'a ComputeContext) -> ort::Result<[ValueRef<'a>; 2]> {
        Ok([required(context, 0)?, required(context, 1)?])
    }

    pub(super) fn of([integers, scales]: &'a [ValueRef<'a>; 2]) -> ort::Result<Self> {
        let (shape, integers) = extract::<u8>(integers)?;
        let (scales_shape, scales) = extract::<f32>(scales)?;
        let [inputs, groups] = [&shape, &scales_shape].map(|shape| shape.last().copied());
        let [inputs, groups] = [inputs, groups].map(|size| size.unwrap_or(0) as usize);
        if groups == 0 || integers.len() * groups != inputs * scales.len() {
            let problem = format!("scales {scales_shape:?} do not belong to {shape:?}");
            return Err(ort::Error::new(problem));
        }
        Ok(Self {
            shape,
            inputs,
            quantized: QuantizedRows {
                integers,
                scales,
                groups,
            },
        })
    }

    /// The shape of rows of `width` values.
    pub(super) fn shape(&self, width: usize) -> Vec<i64> {
        with_last(&self.shape, width)
    }
}
