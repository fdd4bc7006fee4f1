//! Linear layers of 8-bit integers. ONNX Runtime's integer matmul uses one scale per tensor, needs two extra passes for scale
//! and bias, and runs at 80 % of this kernel's rate.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::int8;
use seeward_models::contract::INT8_LINEAR;

use super::engine::{EngineThreads, missing};
use super::layer::{LayerKind, Parts, Rows};

/// Integers u8 `[.., inputs]`, their scales `[.., groups]`, and a layer's [`Parts`] → `[.., outputs]`. See [`int8::Layer`].
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
        LayerKind::of(context).map(Linear)
    }
}

pub(super) struct Linear(LayerKind);

impl Kernel for Linear {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let parts = Parts::of(context, 2)?.ok_or_else(missing)?;
        let tensors = parts.tensors(&self.0, rows.inputs)?;
        let layer = tensors.layer()?;
        let mut output = context.output(0, rows.shape(layer.outputs()))?;
        let output = output.as_mut().ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let threads = EngineThreads(context);
        int8::linear(CpuFeatures::get(), &layer, rows.quantized, output, &threads)
    }
}
