//! Inputs of the operators with linear layers.

use ort::operator::{ComputeContext, OperatorInput};
use ort::value::{TensorElementType, ValueRef};
use seeward_kernels::PANEL_OUTPUTS;
use seeward_kernels::int8::{self, Layer, LayerParts, QuantizedRows, packed_shape};
use seeward_models::contract;

use super::engine::{extract, required, with_last};

// The layout of packed weights is the bundle format's; the kernels are written for it.
const _: () = assert!(contract::PANEL_OUTPUTS == PANEL_OUTPUTS);
const _: () = assert!(contract::PANEL_GROUP == int8::PANEL_GROUP);

/// Inputs that make a layer.
pub(super) const PARTS: usize = 4;

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

    /// The layer for rows of `inputs` integers with this zero point.
    pub(super) fn layer(&self, zero_point: u8, inputs: usize) -> ort::Result<Layer<'_>> {
        let (shape, weights) = extract::<i8>(&self.weights)?;
        let (_, scales) = extract::<f32>(&self.scales)?;
        let (_, sums) = extract::<i32>(&self.sums)?;
        let bias = self.bias.as_deref().map(extract::<f32>).transpose()?;
        let expected = packed_shape(inputs, scales.len()).map(|size| size as i64);
        if shape != expected {
            let problem = format!("weights: expected the shape {expected:?}, got {shape:?}");
            return Err(ort::Error::new(problem));
        }
        let parts = LayerParts {
            inputs,
            zero_point,
            weights,
            scales,
            sums,
            bias: bias.map(|(_, bias)| bias),
        };
        Layer::new(parts).map_err(|e| ort::Error::new(e.to_string()))
    }
}

/// Rows of integers with their scales.
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
        let (_, scales) = extract::<f32>(scales)?;
        let inputs = shape.last().map_or(0, |&inputs| inputs as usize);
        if inputs * scales.len() != integers.len() {
            let problem = format!("{} scales do not belong to {shape:?}", scales.len());
            return Err(ort::Error::new(problem));
        }
        Ok(Self {
            shape,
            inputs,
            quantized: QuantizedRows { integers, scales },
        })
    }

    /// The shape of rows of `width` values.
    pub(super) fn shape(&self, width: usize) -> Vec<i64> {
        with_last(&self.shape, width)
    }
}
