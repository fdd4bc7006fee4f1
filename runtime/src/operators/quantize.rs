//! Rows of values as 8-bit integers. ONNX Runtime's own operator has one scale for all rows; more scales take a dozen nodes
//! and four passes over the values.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8::{QuantRange, QuantizedRowsMut, Quantizer};
use seeward_models::contract::QUANTIZE_ROWS;

use super::engine::{EngineThreads, byte, extract, missing, required, with_last};

/// x `[.., n]` → integers u8 and scales in the shapes of [`Quantizer::shape`].
pub(super) struct QuantizeRows;

impl Operator for QuantizeRows {
    type Kernel<'attr> = Rows;

    fn name(&self) -> &str {
        QUANTIZE_ROWS
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Rows> {
        quantizer(context, ["zero", "above"]).map(Rows)
    }
}

pub(super) struct Rows(Quantizer);

impl Kernel for Rows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = required(context, 0)?;
        let (shape, values) = extract::<f32>(&values)?;
        let width = shape.last().map_or(1, |&width| width as usize);
        let [integers, scales] = self.0.shape(width).map(|size| with_last(&shape, size));
        let mut integers = context.output(0, integers)?.ok_or_else(missing)?;
        let mut scales = context.output(1, scales)?.ok_or_else(missing)?;
        let output = QuantizedRowsMut {
            integers: integers.try_extract_tensor_mut::<u8>()?.1,
            scales: scales.try_extract_tensor_mut::<f32>()?.1,
        };
        let threads = EngineThreads(context);
        self.0
            .quantize_rows(CpuFeatures::get(), (values, width), output, &threads)
    }
}

/// The quantizer of the attributes with these names: a range for whole rows, or neither for rotated groups.
pub(super) fn quantizer(
    context: &KernelContext,
    [zero, above]: [&str; 2],
) -> ort::Result<Quantizer> {
    if context.get::<i64>(zero).is_none() && context.get::<i64>(above).is_none() {
        return Ok(Quantizer::RotatedGroups);
    }
    Ok(Quantizer::Rows(QuantRange {
        zero_point: byte(context, zero, 1)?,
        qmax: byte(context, above, 1)?,
    }))
}
