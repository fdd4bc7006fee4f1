//! The first half of a feed-forward block: the outputs of the linear layers are still in the cache when the nonlinearity is
//! applied to them, and leave it as integers.

use std::cell::RefCell;

use super::dispatch::{Work, dispatch};
use super::dot::IntDot;
use super::layer::Layer;
use super::quantize::Quantizer;
use super::rows::{QuantizedRows, QuantizedRowsMut, RowBuffers};
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
    pub quantizer: Quantizer,
}

/// A thread's memory, kept for its next task.
#[derive(Default)]
struct Scratch {
    rows: RowBuffers,
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

    /// Writes the hidden values as integers with their scales.
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
        let [width, groups] = self.quantizer.shape(self.outputs());
        let outputs = output.tasks(per_task, width, groups);
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
        let (count, first) = (rows.count(), self.first());
        let [width, groups] = self.quantizer.shape(first.outputs());
        let sizes = (first.inputs(), first.outputs());
        if let HiddenLayers::SwiGlu { up, .. } = &self.layers {
            assert_eq!((up.inputs(), up.outputs()), sizes, "layers");
            assert_eq!(rows.groups, up.groups(), "groups");
        }
        assert_eq!(rows.integers.len(), count * sizes.0, "integers");
        assert_eq!(rows.groups, first.groups(), "groups");
        assert_eq!(output.integers.len(), count * width, "outputs");
        assert_eq!(output.scales.len(), count * groups, "scales");
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
        let Scratch { rows, hidden, up } = self.scratch;
        let first = self.block.first();
        let values = self.rows.count() * first.outputs();
        let rows = self.rows.prepare::<D>(rows);
        hidden.resize(values, 0.0);
        first.multiply(dot, &rows, hidden);
        match &self.block.layers {
            HiddenLayers::Gelu(_) => hidden.iter_mut().for_each(|x| *x = gelu(*x)),
            HiddenLayers::SwiGlu { up: layer, .. } => {
                up.resize(values, 0.0);
                layer.multiply(dot, &rows, up);
                let pairs = hidden.iter_mut().zip(up);
                pairs.for_each(|(gate, up)| *gate = silu(*gate) * *up);
            }
        }
        self.block
            .quantizer
            .quantize_each(dot, hidden, first.outputs(), self.output);
    }
}
