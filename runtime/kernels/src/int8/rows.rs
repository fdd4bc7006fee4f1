//! Rows of integers, and how they are shared out among threads.

use crate::panel::{ROWS, rows_per_task};

/// Rows of a task at most: with the weights of a panel they fit into a core's cache.
const MOST_ROWS: usize = 8 * ROWS;

/// Rows of 8-bit integers, each with its scale.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// `[rows, inputs]`.
    pub integers: &'a [u8],
    /// `[rows]`.
    pub scales: &'a [f32],
}

impl<'a> QuantizedRows<'a> {
    /// Rows of a task.
    pub(super) fn per_task(&self) -> usize {
        rows_per_task(self.scales.len(), MOST_ROWS)
    }

    /// The rows of each task.
    pub(super) fn tasks(&self, inputs: usize) -> impl Iterator<Item = QuantizedRows<'a>> {
        let rows = self.per_task();
        let integers = self.integers.chunks((rows * inputs).max(1));
        let tasks = integers.zip(self.scales.chunks(rows));
        tasks.map(|(integers, scales)| QuantizedRows { integers, scales })
    }
}

/// Where rows of integers and their scales go.
#[derive(Debug)]
pub struct QuantizedRowsMut<'a> {
    /// `[rows, width]`.
    pub integers: &'a mut [u8],
    /// `[rows]`.
    pub scales: &'a mut [f32],
}

impl<'a> QuantizedRowsMut<'a> {
    /// Integers of a row.
    pub(super) fn width(&self) -> usize {
        self.integers.len() / self.scales.len().max(1)
    }

    /// The same in tasks of `rows` rows.
    pub(super) fn tasks(
        self,
        rows: usize,
        width: usize,
    ) -> impl Iterator<Item = QuantizedRowsMut<'a>> {
        let integers = self.integers.chunks_mut((rows * width).max(1));
        let tasks = integers.zip(self.scales.chunks_mut(rows));
        tasks.map(|(integers, scales)| QuantizedRowsMut { integers, scales })
    }
}
