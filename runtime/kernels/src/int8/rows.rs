//! Rows of integers, and how they are shared out among threads.

use super::dot::{InputBuffers, IntDot, QUAD};
use crate::panel::{ROWS, rows_per_task};

/// Rows of a task at most: with the weights of a panel they fit into a core's cache.
const MOST_ROWS: usize = 8 * ROWS;

/// Rows of 8-bit integers. Equal groups of a row's integers have a scale each.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// `[rows, inputs]`.
    pub integers: &'a [u8],
    /// `[rows, groups]`.
    pub scales: &'a [f32],
    /// Groups of a row; one or more.
    pub groups: usize,
}

impl<'a> QuantizedRows<'a> {
    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.scales.len() / self.groups
    }

    /// Rows of a task.
    pub(super) fn per_task(&self) -> usize {
        rows_per_task(self.count(), MOST_ROWS)
    }

    /// The rows of each task.
    pub(super) fn tasks(&self, inputs: usize) -> impl Iterator<Item = QuantizedRows<'a>> {
        let (rows, groups) = (self.per_task(), self.groups);
        let integers = self.integers.chunks((rows * inputs).max(1));
        let tasks = integers.zip(self.scales.chunks(rows * groups));
        tasks.map(move |(integers, scales)| QuantizedRows {
            integers,
            scales,
            groups,
        })
    }

    /// The rows as the products read them, padded with zeros.
    #[inline(always)]
    pub(super) fn prepare<D: IntDot>(
        self,
        buffers: &mut RowBuffers,
    ) -> PreparedRows<'_, D::Inputs> {
        let RowBuffers { inputs, scales } = buffers;
        let quads = D::buffer(inputs);
        self.prepare_integers::<D>(quads);
        self.prepare_scales(scales);
        PreparedRows {
            quads,
            scales,
            blocks: self.count().div_ceil(ROWS),
        }
    }

    #[inline(always)]
    fn prepare_integers<D: IntDot>(&self, into: &mut Vec<[D::Inputs; ROWS]>) {
        let inputs = self.integers.len() / self.count().max(1);
        let quads = inputs.div_ceil(QUAD);
        into.clear();
        let blocks = self.count().div_ceil(ROWS);
        into.resize(blocks * quads, [D::prepare([0; QUAD]); ROWS]);
        for (index, row) in self.integers.chunks(inputs.max(1)).enumerate() {
            let block = &mut into[index / ROWS * quads..][..quads];
            let (whole, rest) = row.as_chunks::<QUAD>();
            for (quad, bytes) in block.iter_mut().zip(whole) {
                quad[index % ROWS] = D::prepare(*bytes);
            }
            if !rest.is_empty() {
                let mut bytes = [0; QUAD];
                bytes[..rest.len()].copy_from_slice(rest);
                block[whole.len()][index % ROWS] = D::prepare(bytes);
            }
        }
    }

    #[inline(always)]
    fn prepare_scales(&self, into: &mut Vec<[f32; ROWS]>) {
        into.clear();
        into.resize(self.count().div_ceil(ROWS) * self.groups, [0.0; ROWS]);
        for (index, row) in self.scales.chunks(self.groups).enumerate() {
            let block = &mut into[index / ROWS * self.groups..];
            let pairs = block.iter_mut().zip(row);
            pairs.for_each(|(scales, scale)| scales[index % ROWS] = *scale);
        }
    }
}

/// Scratch memory for prepared rows.
#[derive(Default)]
pub(super) struct RowBuffers {
    inputs: InputBuffers,
    /// `[blocks, groups]`.
    scales: Vec<[f32; ROWS]>,
}

/// Rows in blocks, as the products read them.
#[derive(Clone, Copy)]
pub(super) struct PreparedRows<'a, I> {
    /// `[blocks, quads]`.
    quads: &'a [[I; ROWS]],
    /// `[blocks, groups]`.
    scales: &'a [[f32; ROWS]],
    blocks: usize,
}

impl<'a, I> PreparedRows<'a, I> {
    /// The quads `[quads]` and scales `[groups]` of a block.
    #[inline(always)]
    pub(super) fn block(&self, index: usize) -> (&'a [[I; ROWS]], &'a [[f32; ROWS]]) {
        let (quads, groups) = (
            self.quads.len() / self.blocks,
            self.scales.len() / self.blocks,
        );
        (
            &self.quads[index * quads..][..quads],
            &self.scales[index * groups..][..groups],
        )
    }
}

/// Where rows of integers and their scales go.
#[derive(Debug)]
pub struct QuantizedRowsMut<'a> {
    /// `[rows, width]`.
    pub integers: &'a mut [u8],
    /// `[rows, groups]`.
    pub scales: &'a mut [f32],
}

impl<'a> QuantizedRowsMut<'a> {
    /// The same in tasks of `rows` rows of `width` integers in `groups` groups.
    pub(super) fn tasks(
        self,
        rows: usize,
        width: usize,
        groups: usize,
    ) -> impl Iterator<Item = QuantizedRowsMut<'a>> {
        let integers = self.integers.chunks_mut((rows * width).max(1));
        let tasks = integers.zip(self.scales.chunks_mut(rows * groups));
        tasks.map(|(integers, scales)| QuantizedRowsMut { integers, scales })
    }
}
