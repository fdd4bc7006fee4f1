//! What all operators need of the engine: its tensors, its threads, an operator's attributes.

use ort::operator::{ComputeContext, KernelContext};
use ort::value::{DynValue, PrimitiveTensorElementType, ValueRef};
use seeward_kernels::ParallelFor;

/// An input's shape and elements.
pub(super) type Input<'a, T> = (Vec<i64>, &'a [T]);

pub(super) fn extract<T: PrimitiveTensorElementType>(
    value: &DynValue,
) -> ort::Result<Input<'_, T>> {
    let (shape, elements) = value.try_extract_tensor::<T>()?;
    Ok((shape.to_vec(), elements))
}

/// An input that must be there.
pub(super) fn required<'a>(context: &'a ComputeContext, index: usize) -> ort::Result<ValueRef<'a>> {
    context.input(index)?.ok_or_else(missing)
}

/// The shape with another last dimension.
pub(super) fn with_last(shape: &[i64], last: usize) -> Vec<i64> {
    let mut shape = shape.to_vec();
    if let Some(size) = shape.last_mut() {
        *size = last as i64;
    }
    shape
}

/// An attribute that is an integer of 8 bits, at least `least`.
pub(super) fn byte(context: &KernelContext, name: &str, least: u8) -> ort::Result<u8> {
    let value = context.get::<i64>(name).unwrap_or(-1);
    let byte = u8::try_from(value).ok().filter(|&byte| byte >= least);
    let problem = || ort::Error::new(format!("{name}: expected {least} to 255, got {value}"));
    byte.ok_or_else(problem)
}

/// An attribute that is a size.
pub(super) fn size(context: &KernelContext, name: &str) -> ort::Result<usize> {
    let value = context.get::<i64>(name).unwrap_or(-1);
    let problem = |_| ort::Error::new(format!("{name}: expected a size, got {value}"));
    usize::try_from(value).map_err(problem)
}

pub(super) fn missing() -> ort::Error {
    ort::Error::new("an input or output is missing")
}

/// The threads of the engine's run.
pub(super) struct EngineThreads<'a>(pub(super) &'a ComputeContext);

impl ParallelFor for EngineThreads<'_> {
    type Error = ort::Error;

    fn for_each(&self, count: usize, body: &(dyn Fn(usize) + Sync)) -> ort::Result<()> {
        self.0.par_for(count, 0, body)
    }
}
