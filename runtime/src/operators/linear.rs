//! Linear layers of 8-bit integers. ONNX Runtime's integer matmul uses one scale per tensor, needs two extra passes for scale
//! and bias, and runs at 80 % of this kernel's rate.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8;
use seeward_models::contract::INT8_LINEAR;

use super::engine::{EngineThreads, byte, missing};
use super::layer::{Parts, Rows};

/// Integers u8 `[.., inputs]`, their rows' scales `[.., 1]`, and a layer's [`Parts`] → `[.., outputs]`:
/// Σ (integer − zero point) · weight · row's scale · output's scale + bias.
pub(super) struct Int8Linear;

impl Operator for Int8Linear {
    type Kernel<'attr> = Linear;

    fn name(&self) -> &str {
        INT8_LINEAR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let layer = Parts::declared(OperatorInput::required);
        Rows::declared().into_iter().chain(layer)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Linear> {
        Ok(Linear {
            zero_point: byte(context, "zero", 0)?,
        })
    }
}

pub(super) struct Linear {
    zero_point: u8,
}

impl Kernel for Linear {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let parts = Parts::of(context, 2)?.ok_or_else(missing)?;
        let layer = parts.layer(self.zero_point, rows.inputs)?;
        let mut output = context.output(0, rows.shape(layer.outputs()))?;
        let output = output.as_mut().ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let threads = EngineThreads(context);
        int8::linear(CpuFeatures::get(), &layer, rows.quantized, output, &threads)
    }
}
