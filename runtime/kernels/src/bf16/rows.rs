//! Rows of a layer's inputs, and how the products read them.

use super::product::RowPairs;
use crate::lanes::{LANES, Lanes};
use crate::pair::Pair;
use crate::panel::{ROWS, rows_per_task};

/// Rows of a task at most: with the weights of a panel they fit into a core's cache.
const MOST_ROWS: usize = 8 * ROWS;

/// Rows `[rows, inputs]`.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Values, to be rounded to bf16.
    F32(&'a [f32]),
    /// The bits of bf16 values.
    Bf16(&'a [u16]),
}

impl<'a> Rows<'a> {
    /// Number of rows.
    ///
    /// # Panics
    /// If the last row is incomplete.
    pub(super) fn count(&self, inputs: usize) -> usize {
        let values = match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        };
        let count = values / inputs.max(1);
        assert_eq!(values, count * inputs, "rows");
        count
    }

    /// Rows of a task.
    pub(super) fn per_task(&self, inputs: usize) -> usize {
        rows_per_task(self.count(inputs), MOST_ROWS)
    }

    /// The rows of each task.
    pub(super) fn tasks(&self, inputs: usize) -> Vec<Rows<'a>> {
        let values = (self.per_task(inputs) * inputs).max(1);
        match self {
            Self::F32(all) => all.chunks(values).map(Rows::F32).collect(),
            Self::Bf16(all) => all.chunks(values).map(Rows::Bf16).collect(),
        }
    }

    /// The rows as the products read them: `[blocks of rows, pairs of inputs]`. Rows that are missing of the last block keep
    /// the values of earlier tasks; nothing reads their sums.
    #[inline(always)]
    pub(super) fn prepare<L: Lanes>(
        &self,
        token: L::Token,
        inputs: usize,
        into: &mut Vec<RowPairs>,
    ) {
        let (pairs, count) = (inputs.div_ceil(2), self.count(inputs));
        into.resize(count.div_ceil(ROWS) * pairs, [[0; 2]; ROWS]);
        let block = |row: usize| row / ROWS * pairs..(row / ROWS + 1) * pairs;
        match self {
            Self::F32(values) => {
                for (index, row) in values.chunks(inputs.max(1)).enumerate() {
                    round::<L>(token, row, &mut into[block(index)], index % ROWS);
                }
            }
            Self::Bf16(values) => {
                for (index, row) in values.chunks(inputs.max(1)).enumerate() {
                    place(row, &mut into[block(index)], index % ROWS);
                }
            }
        }
    }
}

/// Rounds the row to pairs and writes them as the block's row `at`.
#[inline(always)]
fn round<L: Lanes>(token: L::Token, row: &[f32], block: &mut [RowPairs], at: usize) {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    let values = whole.iter().chain((!rest.is_empty()).then_some(&padded));
    for (values, places) in values.zip(block.chunks_mut(LANES / 2)) {
        let pairs = L::load(token, values).to_bf16();
        write(places, at, &pairs);
    }
}

/// Writes the row, which is rounded already.
#[inline(always)]
fn place(row: &[u16], block: &mut [RowPairs], at: usize) {
    let (pairs, rest) = row.as_chunks::<2>();
    let (places, last) = block.split_at_mut(pairs.len());
    write(places, at, pairs);
    if let ([value], [place]) = (rest, last) {
        place[at] = [*value, 0];
    }
}

#[inline(always)]
fn write(places: &mut [RowPairs], at: usize, pairs: &[Pair]) {
    let places = places.iter_mut().zip(pairs);
    places.for_each(|(place, pair)| place[at] = *pair);
}
