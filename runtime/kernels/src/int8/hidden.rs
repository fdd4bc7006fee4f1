//! The first half of a feed-forward block: the outputs of the linear layers are still in the cache when the nonlinearity is
//! applied to them, and leave it as integers.

use std::cell::RefCell;

use super::dispatch::{Work, dispatch};
use super::dot::{InputBuffers, IntDot};
use super::layer::Layer;
use super::quantize::QuantRange;
use super::rows::{QuantizedRows, QuantizedRowsMut};
use crate::CpuFeatures;
use crate::activations::{gelu, silu};
use crate::parallel::{ParallelFor, run_tasks};

/// The linear layers before the nonlinearity.
#[derive(Debug)]
pub enum HiddenLayers<'a> {
    /// GELU of the layer's outputs.
    Gelu(Layer<'a>),
    /// SiLU of the gate's outputs times the other layer's, which has as many.
    SwiGlu {
        /// The gate.
        gate: Layer<'a>,
        /// The other layer.
        up: Layer<'a>,
    },
}

/// The first half of a feed-forward block.
#[derive(Debug)]
pub struct FeedForward<'a> {
    /// The layers.
    pub layers: HiddenLayers<'a>,
    /// The integers for their outputs after the nonlinearity.
    pub range: QuantRange,
}

/// A thread's memory, kept for its next task.
#[derive(Default)]
struct Scratch {
    inputs: InputBuffers,
    /// `[rows, outputs]`.
    hidden: Vec<f32>,
    /// `[rows, outputs]`.
    up: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl FeedForward<'_> {
    /// Outputs of a row.
    pub fn outputs(&self) -> usize {
        self.first().outputs()
    }

    /// Writes the hidden values as integers with a scale for each row.
    ///
    /// # Errors
    /// Those of `parallel`.
    ///
    /// # Panics
    /// If lengths do not match the layers', or the layers' not each other.
    pub fn run<P: ParallelFor>(
        &self,
        features: CpuFeatures,
        rows: QuantizedRows,
        output: QuantizedRowsMut,
        parallel: &P,
    ) -> Result<(), P::Error> {
        self.check(&rows, &output);
        let per_task = rows.per_task();
        let outputs = output.tasks(per_task, self.outputs());
        let tasks = rows.tasks(self.first().inputs()).zip(outputs);
        run_tasks(parallel, tasks, |(rows, output)| {
            SCRATCH.with_borrow_mut(|scratch| {
                let task = Task {
                    block: self,
                    rows,
                    output,
                    scratch,
                };
                dispatch(features, task);
            });
        })
    }

    fn first(&self) -> &Layer<'_> {
        match &self.layers {
            HiddenLayers::Gelu(layer) => layer,
            HiddenLayers::SwiGlu { gate, .. } => gate,
        }
    }

    fn check(&self, rows: &QuantizedRows, output: &QuantizedRowsMut) {
        let (count, first) = (rows.scales.len(), self.first());
        let sizes = (first.inputs(), first.outputs());
        if let HiddenLayers::SwiGlu { up, .. } = &self.layers {
            assert_eq!((up.inputs(), up.outputs()), sizes, "layers");
        }
        assert_eq!(rows.integers.len(), count * sizes.0, "integers");
        assert_eq!(output.integers.len(), count * sizes.1, "outputs");
        assert_eq!(output.scales.len(), count, "scales");
    }
}

/// Some rows.
struct Task<'a> {
    block: &'a FeedForward<'a>,
    rows: QuantizedRows<'a>,
    output: QuantizedRowsMut<'a>,
    scratch: &'a mut Scratch,
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<D: IntDot>(self, dot: D) {
        let Scratch { inputs, hidden, up } = self.scratch;
        let (inputs, scales) = (D::buffer(inputs), self.rows.scales);
        let (first, values) = (self.block.first(), self.output.integers.len());
        first.prepare::<D>(self.rows.integers, inputs);
        hidden.resize(values, 0.0);
        first.multiply(dot, inputs, scales, hidden);
        match &self.block.layers {
            HiddenLayers::Gelu(_) => hidden.iter_mut().for_each(|x| *x = gelu(*x)),
            HiddenLayers::SwiGlu { up: layer, .. } => {
                up.resize(values, 0.0);
                layer.multiply(dot, inputs, scales, up);
                let pairs = hidden.iter_mut().zip(up);
                pairs.for_each(|(gate, up)| *gate = silu(*gate) * *up);
            }
        }
        self.block.range.quantize_each(hidden, self.output);
    }
}
