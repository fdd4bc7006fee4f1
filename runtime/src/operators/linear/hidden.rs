//! The first half of a feed-forward layer: what comes out of the linear layers is in the cache when the nonlinearity is
//! applied to it, and leaves it as integers.

use std::sync::{Mutex, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_models::contract::INT8_HIDDEN;

use super::super::activations::{gelu, silu};
use super::super::integers::{Products, Work, run};
use super::super::rows::Range;
use super::{Layer, PARTS, Parts, Rows, byte, missing};

/// Integers u8 [.., inputs], their rows' steps [.., 1], and the [`Parts`] of one layer or of two → the integers of the hidden
/// numbers u8 [.., outputs] and their rows' steps [.., 1], as `QuantizeRows` makes them. Hidden numbers are the GELU of what
/// comes out of the one layer, or the SiLU of what comes out of the first times what comes out of the second.
pub(in super::super) struct Int8Hidden;

impl Operator for Int8Hidden {
    type Kernel<'attr> = Hidden;

    fn name(&self) -> &str {
        INT8_HIDDEN
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let layer = Parts::declared(OperatorInput::required);
        let gated = Parts::declared(OperatorInput::optional);
        Rows::declared().into_iter().chain(layer).chain(gated)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Hidden> {
        Ok(Hidden {
            zero: byte(context, "zero")?,
            range: Range::of(context, ["hidden_zero", "hidden_above"])?,
        })
    }
}

pub(in super::super) struct Hidden {
    /// The integer for zero of the rows that come in.
    zero: u8,
    /// Of the rows that go out.
    range: Range,
}

impl Kernel for Hidden {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let values = Rows::values(context)?;
        let rows = Rows::of(&values)?;
        let parts = Parts::of(context, 2)?.ok_or_else(missing)?;
        let layer = parts.layer(self.zero, rows.inputs)?;
        let gated = Parts::of(context, 2 + PARTS)?;
        let gated = gated
            .as_ref()
            .map(|parts| parts.layer(self.zero, rows.inputs));
        let gated = gated.transpose()?;
        if gated
            .as_ref()
            .is_some_and(|gated| gated.outputs != layer.outputs)
        {
            return Err(ort::Error::new("the two layers are not of one width"));
        }
        let mut integers = context
            .output(0, rows.shape(layer.outputs))?
            .ok_or_else(missing)?;
        let mut steps = context.output(1, rows.shape(1))?.ok_or_else(missing)?;
        let (_, integers) = integers.try_extract_tensor_mut::<u8>()?;
        let (_, steps) = steps.try_extract_tensor_mut::<f32>()?;
        let outputs = integers
            .chunks_mut((rows.at_once() * layer.outputs).max(1))
            .zip(steps.chunks_mut(rows.at_once()));
        let tasks: Vec<_> = rows.tasks().zip(outputs).map(Mutex::new).collect();
        context.par_for(tasks.len(), 0, |index| {
            let mut task = tasks[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (rows, (integers, steps)) = &mut *task;
            run(Task {
                layer: &layer,
                gated: gated.as_ref(),
                rows: *rows,
                range: self.range,
                integers,
                steps,
            });
        })
    }
}

/// Some rows.
pub(super) struct Task<'a> {
    pub(super) layer: &'a Layer<'a>,
    pub(super) gated: Option<&'a Layer<'a>>,
    /// Integers and steps.
    pub(super) rows: (&'a [u8], &'a [f32]),
    pub(super) range: Range,
    pub(super) integers: &'a mut [u8],
    pub(super) steps: &'a mut [f32],
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<P: Products>(self) {
        let (layer, width) = (self.layer, self.layer.outputs.max(1));
        let rows = layer.grouped(self.rows.0);
        let mut hidden = vec![0.0; self.integers.len()];
        layer.multiply::<P>(&rows, self.rows.1, &mut hidden);
        match self.gated {
            None => hidden.iter_mut().for_each(|number| *number = gelu(*number)),
            Some(gated) => {
                let mut numbers = vec![0.0; hidden.len()];
                gated.multiply::<P>(&rows, self.rows.1, &mut numbers);
                let pairs = hidden.iter_mut().zip(&numbers);
                pairs.for_each(|(gate, number)| *gate = silu(*gate) * number);
            }
        }
        let rows = hidden.chunks(width).zip(self.integers.chunks_mut(width));
        for ((numbers, integers), step) in rows.zip(self.steps) {
            *step = self.range.quantize(numbers, integers);
        }
    }
}
