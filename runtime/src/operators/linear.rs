//! Linear layers of 8-bit integers, as operators for ONNX Runtime's session on a processor. Its own has one scale for all
//! inputs, so that steps and bias take two more passes over what comes out of it, and multiplies at four fifths of this
//! one's rate.

mod hidden;
mod layer;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};
use seeward_models::contract::INT8_LINEAR;

use super::extract;
use super::integers::{Products, ROWS, Work, run};
pub(super) use hidden::Int8Hidden;
use layer::{Layer, PARTS, Parts};

/// Integers u8 [.., inputs], their rows' steps [.., 1], and a layer's [`Parts`] → [.., outputs]:
/// Σ (integer − `zero`) · weight · step · scale + bias.
pub(super) struct Int8Linear;

impl Operator for Int8Linear {
    type Kernel<'attr> = Zero;

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

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Zero> {
        Ok(Zero(byte(context, "zero")?))
    }
}

/// The integer for zero.
pub(super) struct Zero(u8);

impl Kernel for Zero {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let parts = Parts::of(context, 2)?.ok_or_else(missing)?;
        let layer = parts.layer(self.0, rows.inputs)?;
        let mut output = context.output(0, rows.shape(layer.outputs))?;
        let output = output.as_mut().ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let outputs = output.chunks_mut((rows.at_once() * layer.outputs).max(1));
        let tasks: Vec<_> = rows.tasks().zip(outputs).map(Mutex::new).collect();
        context.par_for(tasks.len(), 0, |index| {
            let mut task = tasks[index].lock().unwrap_or_else(PoisonError::into_inner);
            let ((integers, steps), output) = &mut *task;
            run(Task {
                layer: &layer,
                integers,
                steps,
                output,
            });
        })
    }
}

/// Some rows.
struct Task<'a> {
    layer: &'a Layer<'a>,
    integers: &'a [u8],
    steps: &'a [f32],
    output: &'a mut [f32],
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<P: Products>(self) {
        let rows = self.layer.grouped(self.integers);
        self.layer.multiply::<P>(&rows, self.steps, self.output);
    }
}

/// Rows that a thread takes at once: with the weights of a panel they fit into its cache.
const AT_ONCE: usize = 8 * ROWS;
/// Tasks that there are at least, if there are as many rows.
const TASKS: usize = 8;

/// Rows of integers with their steps.
struct Rows<'a> {
    shape: Vec<i64>,
    inputs: usize,
    integers: &'a [u8],
    steps: &'a [f32],
}

impl<'a> Rows<'a> {
    fn declared() -> [OperatorInput; 2] {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorInput::required)
    }

    fn values(context: &'a ComputeContext) -> ort::Result<[ValueRef<'a>; 2]> {
        let input = |index| context.input(index)?.ok_or_else(missing);
        Ok([input(0)?, input(1)?])
    }

    fn of([integers, steps]: &'a [ValueRef<'a>; 2]) -> ort::Result<Self> {
        let (shape, integers) = extract::<u8>(integers)?;
        let (_, steps) = extract::<f32>(steps)?;
        let inputs = shape.last().map_or(0, |&inputs| inputs as usize);
        if inputs * steps.len() != integers.len() {
            let problem = format!("{} steps do not belong to {shape:?}", steps.len());
            return Err(ort::Error::new(problem));
        }
        Ok(Self {
            shape,
            inputs,
            integers,
            steps,
        })
    }

    /// The shape of rows of so many numbers.
    fn shape(&self, width: usize) -> Vec<i64> {
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = width as i64;
        }
        shape
    }

    /// Rows of a task.
    fn at_once(&self) -> usize {
        let even = self.steps.len().div_ceil(TASKS).next_multiple_of(ROWS);
        even.clamp(ROWS, AT_ONCE)
    }

    /// Integers and steps of each task.
    fn tasks(&self) -> impl Iterator<Item = (&'a [u8], &'a [f32])> {
        let integers = self.integers.chunks((self.at_once() * self.inputs).max(1));
        integers.zip(self.steps.chunks(self.at_once()))
    }
}

/// An attribute that is an integer of 8 bits.
fn byte(context: &KernelContext, name: &str) -> ort::Result<u8> {
    let value = context.get::<i64>(name).unwrap_or(-1);
    u8::try_from(value)
        .map_err(|_| ort::Error::new(format!("{name} is {value}, expected 0 to 255")))
}

fn missing() -> ort::Error {
    ort::Error::new("an input or output is missing")
}
