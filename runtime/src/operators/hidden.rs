//! The first half of a feed-forward block.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8::{FeedForward, HiddenLayers, Layer, QuantRange, QuantizedRowsMut};
use seeward_models::contract::INT8_HIDDEN;

use super::engine::{EngineThreads, byte, missing};
use super::layer::{PARTS, Parts, Rows};
use super::quantize::range;

/// Integers u8 `[.., inputs]`, their rows' scales `[.., 1]`, and the [`Parts`] of one layer or two → the integers of the hidden
/// values u8 `[.., outputs]` and their rows' scales `[.., 1]`, as `QuantizeRows` computes them. Hidden values are the GELU of the
/// one layer's outputs, or the SiLU of the first layer's times the second's.
pub(super) struct Int8Hidden;

impl Operator for Int8Hidden {
    type Kernel<'attr> = Hidden;

    fn name(&self) -> &str {
        INT8_HIDDEN
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let layer = Parts::declared(OperatorInput::required);
        let second = Parts::declared(OperatorInput::optional);
        Rows::declared().into_iter().chain(layer).chain(second)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Hidden> {
        Ok(Hidden {
            zero_point: byte(context, "zero", 0)?,
            range: range(context, ["hidden_zero", "hidden_above"])?,
        })
    }
}

pub(super) struct Hidden {
    /// Of the inputs.
    zero_point: u8,
    /// Of the outputs.
    range: QuantRange,
}

impl Kernel for Hidden {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let first = Parts::of(context, 2)?.ok_or_else(missing)?;
        let second = Parts::of(context, 2 + PARTS)?;
        let first = first.layer(self.zero_point, rows.inputs)?;
        let second = second.as_ref();
        let second = second.map(|parts| parts.layer(self.zero_point, rows.inputs));
        let block = FeedForward {
            layers: hidden_layers(first, second.transpose()?)?,
            range: self.range,
        };
        let mut integers = context
            .output(0, rows.shape(block.outputs()))?
            .ok_or_else(missing)?;
        let mut scales = context.output(1, rows.shape(1))?.ok_or_else(missing)?;
        let output = QuantizedRowsMut {
            integers: integers.try_extract_tensor_mut::<u8>()?.1,
            scales: scales.try_extract_tensor_mut::<f32>()?.1,
        };
        let threads = EngineThreads(context);
        block.run(CpuFeatures::get(), rows.quantized, output, &threads)
    }
}

fn hidden_layers<'a>(first: Layer<'a>, second: Option<Layer<'a>>) -> ort::Result<HiddenLayers<'a>> {
    match second {
        None => Ok(HiddenLayers::Gelu(first)),
        Some(second) if second.outputs() == first.outputs() => Ok(HiddenLayers::SwiGlu {
            gate: first,
            up: second,
        }),
        Some(second) => Err(ort::Error::new(format!(
            "the two layers differ in their outputs: {} and {}",
            first.outputs(),
            second.outputs()
        ))),
    }
}
