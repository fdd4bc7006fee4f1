//! Linear layers in bf16, for which ONNX Runtime's CPU provider has no kernel.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::{DynValue, TensorElementType, ValueRef};
use seeward_kernels::CpuFeatures;
use seeward_kernels::bf16::{
    self as kernels, FeedForward, HiddenLayers, Layer, LayerParts, Rows, packed_shape,
};
use seeward_models::contract::{BF16_GROUP, BF16_HIDDEN, BF16_LINEAR};

use super::engine::{EngineThreads, extract, missing, required, size, with_last};

// The layout of packed weights is the bundle format's; the kernels are written for it.
const _: () = assert!(BF16_GROUP == kernels::PANEL_GROUP);

/// x f32 or bf16 `[.., inputs]` and a layer's [`Parts`] → f32 `[.., outputs]`: Σ x in bf16 · weight + bias.
pub(super) struct Bf16Linear;

impl Operator for Bf16Linear {
    type Kernel<'attr> = Linear;

    fn name(&self) -> &str {
        BF16_LINEAR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [ROWS].into_iter().chain(Parts::declared())
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Linear> {
        Ok(Linear {
            outputs: size(context, "outputs")?,
        })
    }
}

/// Floats or bf16.
const ROWS: OperatorInput = OperatorInput::required(TensorElementType::Undefined);

pub(super) struct Linear {
    outputs: usize,
}

impl Kernel for Linear {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let rows = required(context, 0)?;
        let (shape, rows) = extract_rows(&rows)?;
        let parts = Parts::of(context, 1)?.ok_or_else(missing)?;
        let layer = parts.layer(self.outputs, &shape)?;
        let mut output = context.output(0, with_last(&shape, self.outputs))?;
        let output = output.as_mut().ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let threads = EngineThreads(context);
        kernels::linear(CpuFeatures::get(), &layer, rows, output, &threads)
    }
}

/// x f32 or bf16 `[.., inputs]`, and the [`Parts`] of one layer or two → the hidden values bf16 `[.., outputs]`: the GELU of the
/// one layer's outputs, or the SiLU of the first layer's times the second's.
pub(super) struct Bf16Hidden;

impl Operator for Bf16Hidden {
    type Kernel<'attr> = Hidden;

    fn name(&self) -> &str {
        BF16_HIDDEN
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let layer = [TensorElementType::Bfloat16, TensorElementType::Float32];
        let second = layer.map(OperatorInput::optional);
        [ROWS].into_iter().chain(Parts::declared()).chain(second)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Bfloat16)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Hidden> {
        Ok(Hidden {
            outputs: size(context, "outputs")?,
        })
    }
}

pub(super) struct Hidden {
    outputs: usize,
}

impl Kernel for Hidden {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let rows = required(context, 0)?;
        let (shape, rows) = extract_rows(&rows)?;
        let gate = Parts::of(context, 1)?.ok_or_else(missing)?;
        let up = Parts::of(context, 1 + PARTS)?;
        let gate = gate.layer(self.outputs, &shape)?;
        let up = up.as_ref().map(|parts| parts.layer(self.outputs, &shape));
        let layers = match up.transpose()? {
            None => HiddenLayers::Gelu(gate),
            Some(up) => HiddenLayers::SwiGlu { gate, up },
        };
        let mut output = context.output(0, with_last(&shape, self.outputs))?;
        let output = output.as_mut().ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<bf16>()?;
        let output = output.reinterpret_cast_mut();
        FeedForward(layers).run(CpuFeatures::get(), rows, output, &EngineThreads(context))
    }
}

/// Rows of floats, or of values that are in bf16 already, with their shape.
fn extract_rows(value: &DynValue) -> ort::Result<(Vec<i64>, Rows<'_>)> {
    if let Ok((shape, values)) = extract::<f32>(value) {
        return Ok((shape, Rows::F32(values)));
    }
    let (shape, values) = extract::<bf16>(value)?;
    Ok((shape, Rows::Bf16(values.reinterpret_cast())))
}

/// Inputs that make a layer.
const PARTS: usize = 2;

/// The inputs of an operator that make a layer: packed weights bf16 and an optional bias f32 `[outputs]`.
struct Parts<'a> {
    weights: ValueRef<'a>,
    bias: Option<ValueRef<'a>>,
}

impl<'a> Parts<'a> {
    fn declared() -> [OperatorInput; PARTS] {
        [
            OperatorInput::required(TensorElementType::Bfloat16),
            OperatorInput::optional(TensorElementType::Float32),
        ]
    }

    /// Those from the input `first` on, if they are there.
    fn of(context: &'a ComputeContext, first: usize) -> ort::Result<Option<Self>> {
        let count = context.num_inputs()?;
        let input = |index: usize| match index < count {
            true => context.input(index),
            false => Ok(None),
        };
        let Some(weights) = input(first)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            weights,
            bias: input(first + 1)?,
        }))
    }

    /// The layer for rows of this shape.
    fn layer(&self, outputs: usize, rows: &[i64]) -> ort::Result<Layer<'_>> {
        let inputs = rows.last().map_or(0, |&inputs| inputs as usize);
        let (shape, weights) = extract::<bf16>(&self.weights)?;
        let bias = self.bias.as_deref().map(extract::<f32>).transpose()?;
        let expected = packed_shape(inputs, outputs).map(|size| size as i64);
        if shape != expected {
            let problem = format!("weights: expected the shape {expected:?}, got {shape:?}");
            return Err(ort::Error::new(problem));
        }
        let parts = LayerParts {
            inputs,
            outputs,
            weights: weights.reinterpret_cast(),
            bias: bias.map(|(_, bias)| bias),
        };
        Layer::new(parts).map_err(|e| ort::Error::new(e.to_string()))
    }
}
