//! The first half of a feed-forward block.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8::{FeedForward, HiddenLayers, Layer, QuantizedRowsMut, Quantizer};
use seeward_models::contract::INT8_HIDDEN;

use super::engine::{EngineThreads, missing};
use super::layer::{LayerKind, PARTS, Parts, Rows, Tensors};
use super::quantize::quantizer;

/// Integers u8 `[.., inputs]`, their scales `[.., groups]`, and the [`Parts`] of one layer or two → the integers of the hidden
/// values and their scales, as `QuantizeRows` computes them. Hidden values are the GELU of the
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
            kind: LayerKind::of(context)?,
            quantizer: quantizer(context, ["hidden_zero", "hidden_above"])?,
        })
    }
}

pub(super) struct Hidden {
    kind: LayerKind,
    /// Of the outputs.
    quantizer: Quantizer,
}

impl Kernel for Hidden {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let first = Parts::of(context, 2)?.ok_or_else(missing)?;
        let second = Parts::of(context, 2 + PARTS)?;
        let second = second.as_ref();
        let first = first.tensors(&self.kind, rows.inputs)?;
        let second = second.map(|parts| parts.tensors(&self.kind, rows.inputs));
        let second = second.transpose()?;
        let second = second.as_ref().map(Tensors::layer).transpose()?;
        let block = FeedForward {
            layers: hidden_layers(first.layer()?, second)?,
            quantizer: self.quantizer,
        };
        let [width, groups] = self.quantizer.shape(block.outputs());
        let mut integers = context.output(0, rows.shape(width))?.ok_or_else(missing)?;
        let mut scales = context.output(1, rows.shape(groups))?.ok_or_else(missing)?;
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
