//! Linear layers over all rows.

use std::cell::RefCell;

use super::dispatch::{Work, dispatch};
use super::layer::Layer;
use super::product::{PairDot, RowPairs, Sums};
use super::rows::Rows;
use crate::CpuFeatures;
use crate::panel::{PANEL_OUTPUTS, ROWS};
use crate::parallel::{ParallelFor, run_tasks};

thread_local! {
    /// A thread's memory, kept for its next task.
    static PREPARED: RefCell<Vec<RowPairs>> = RefCell::default();
}

/// What is computed panel by panel.
pub(super) trait Panels: Sync {
    /// The type of outputs.
    type Output: Copy + Send;

    /// Inputs of a row.
    fn inputs(&self) -> usize;
    /// Outputs of a row.
    fn outputs(&self) -> usize;
    /// The panel's outputs of a block of prepared rows. Always inlined.
    fn panel<D: PairDot>(
        &self,
        dot: D,
        panel: usize,
        rows: &[RowPairs],
    ) -> [[Self::Output; PANEL_OUTPUTS]; ROWS];
    /// [`compute`] of this type: not generic, so that it is compiled with this crate's optimization.
    fn compute(&self, features: CpuFeatures, rows: Rows, output: &mut [Self::Output]);
}

impl Panels for Layer<'_> {
    type Output = f32;

    fn inputs(&self) -> usize {
        self.inputs()
    }

    fn outputs(&self) -> usize {
        self.outputs()
    }

    #[inline(always)]
    fn panel<D: PairDot>(&self, dot: D, panel: usize, rows: &[RowPairs]) -> Sums {
        self.sums(dot, panel, rows)
    }

    fn compute(&self, features: CpuFeatures, rows: Rows, output: &mut [f32]) {
        compute(self, features, rows, output);
    }
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
    rows: Rows,
    output: &mut [f32],
    parallel: &P,
) -> Result<(), P::Error> {
    run(features, layer, rows, output, parallel)
}

/// Writes the outputs `[rows, outputs]`.
pub(super) fn run<L: Panels, P: ParallelFor>(
    features: CpuFeatures,
    layer: &L,
    rows: Rows,
    output: &mut [L::Output],
    parallel: &P,
) -> Result<(), P::Error> {
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    let count = rows.count(inputs);
    assert_eq!(output.len(), count * outputs, "outputs");
    let per_task = rows.per_task(inputs);
    let outputs = output.chunks_mut((per_task * outputs).max(1));
    let tasks = rows.tasks(inputs).into_iter().zip(outputs);
    run_tasks(parallel, tasks, |(rows, output)| {
        layer.compute(features, rows, output);
    })
}

/// Writes the outputs of a task's rows.
pub(super) fn compute<L: Panels>(
    layer: &L,
    features: CpuFeatures,
    rows: Rows,
    output: &mut [L::Output],
) {
    PREPARED.with_borrow_mut(|prepared| {
        let task = Task {
            layer,
            rows,
            output,
            prepared,
        };
        dispatch(features, task);
    });
}

/// Some rows.
struct Task<'a, L: Panels> {
    layer: &'a L,
    rows: Rows<'a>,
    output: &'a mut [L::Output],
    prepared: &'a mut Vec<RowPairs>,
}

impl<L: Panels> Work for Task<'_, L> {
    #[inline(always)]
    fn with<D: PairDot>(self, dot: D) {
        let (inputs, outputs) = (self.layer.inputs(), self.layer.outputs());
        self.rows.prepare::<D::Lanes>(dot, inputs, self.prepared);
        for panel in 0..outputs.div_ceil(PANEL_OUTPUTS) {
            let first = panel * PANEL_OUTPUTS;
            let columns = first..outputs.min(first + PANEL_OUTPUTS);
            let blocks = self.prepared.chunks(inputs.div_ceil(2).max(1));
            for (rows, output) in blocks.zip(self.output.chunks_mut(ROWS * outputs)) {
                let values = self.layer.panel(dot, panel, rows);
                for (output, values) in output.chunks_mut(outputs).zip(&values) {
                    let output = &mut output[columns.clone()];
                    output.copy_from_slice(&values[..output.len()]);
                }
            }
        }
    }
}
