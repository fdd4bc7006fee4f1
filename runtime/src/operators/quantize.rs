//! Rows of values as 8-bit integers. ONNX Runtime's own operator has one scale for all rows; a scale for each takes a dozen
//! nodes and four passes over the values.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8::{QuantRange, QuantizedRowsMut};
use seeward_models::contract::QUANTIZE_ROWS;

use super::engine::{EngineThreads, byte, extract, missing, required, with_last};

/// x `[.., n]` → integers u8 `[.., n]` and scales `[.., 1]`: a value is nearly (integer − zero point) · its row's scale. See
/// [`QuantRange::quantize_rows`].
pub(super) struct QuantizeRows;

impl Operator for QuantizeRows {
    type Kernel<'attr> = Quantizer;

    fn name(&self) -> &str {
        QUANTIZE_ROWS
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Quantizer> {
        Ok(Quantizer(range(context, ["zero", "above"])?))
    }
}

pub(super) struct Quantizer(QuantRange);

impl Kernel for Quantizer {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = required(context, 0)?;
        let (shape, values) = extract::<f32>(&values)?;
        let scales_shape = with_last(&shape, 1);
        let mut integers = context.output(0, shape)?.ok_or_else(missing)?;
        let mut scales = context.output(1, scales_shape)?.ok_or_else(missing)?;
        let output = QuantizedRowsMut {
            integers: integers.try_extract_tensor_mut::<u8>()?.1,
            scales: scales.try_extract_tensor_mut::<f32>()?.1,
        };
        let threads = EngineThreads(context);
        self.0
            .quantize_rows(CpuFeatures::get(), values, output, &threads)
    }
}

/// The range of the attributes with these names.
pub(super) fn range(context: &KernelContext, [zero, above]: [&str; 2]) -> ort::Result<QuantRange> {
    Ok(QuantRange {
        zero_point: byte(context, zero, 1)?,
        qmax: byte(context, above, 1)?,
    })
}
