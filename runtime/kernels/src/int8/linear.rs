//! A linear layer over all rows.

use std::cell::RefCell;

use super::dispatch::{Work, dispatch};
use super::dot::IntDot;
use super::layer::Layer;
use super::rows::{QuantizedRows, RowBuffers};
use crate::CpuFeatures;
use crate::parallel::{ParallelFor, run_tasks};

thread_local! {
    /// A thread's memory, kept for its next task.
    static SCRATCH: RefCell<RowBuffers> = RefCell::default();
}

/// Writes the layer's outputs `[rows, outputs]`.
///
/// # Errors
/// Those of `parallel`.
///
/// # Panics
/// If lengths do not match the layer's.
pub fn linear<P: ParallelFor>(
    features: CpuFeatures,
    layer: &Layer,
    rows: QuantizedRows,
    output: &mut [f32],
    parallel: &P,
) -> Result<(), P::Error> {
    let count = rows.count();
    assert_eq!(rows.groups, layer.groups(), "groups");
    assert_eq!(rows.integers.len(), count * layer.inputs(), "integers");
    assert_eq!(output.len(), count * layer.outputs(), "outputs");
    let outputs = output.chunks_mut((rows.per_task() * layer.outputs()).max(1));
    let tasks = rows.tasks(layer.inputs()).zip(outputs);
    run_tasks(parallel, tasks, |(rows, output)| {
        SCRATCH.with_borrow_mut(|buffers| {
            let task = Task {
                layer,
                rows,
                output,
                buffers,
            };
            dispatch(features, task);
        });
    })
}

/// Some rows.
struct Task<'a> {
    layer: &'a Layer<'a>,
    rows: QuantizedRows<'a>,
    output: &'a mut [f32],
    buffers: &'a mut RowBuffers,
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<D: IntDot>(self, dot: D) {
        let rows = self.rows.prepare::<D>(self.buffers);
        self.layer.multiply(dot, &rows, self.output);
    }
}
