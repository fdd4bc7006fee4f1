//! Keys and values of a head in the layout of the dot products: rounded to bf16, in blocks of [`LANES`] keys.

use crate::lanes::LANES;
use crate::pair::{Pair, pair, pair_up};

/// A head's keys and values, padded with zeros to whole blocks.
pub(super) struct PackedHead {
    /// `[blocks, pairs of a head's values, keys]`.
    pub(super) keys: Vec<Pair>,
    /// `[blocks, pairs of keys, registers of a head's values, values]`.
    pub(super) values: Vec<Pair>,
}

/// The rows of one head in a tensor of several: `size` values every `stride`, from the first value on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) size: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.size]
    }
}

impl PackedHead {
    pub(super) fn new(keys: Rows, values: Rows, tokens: usize) -> Self {
        Self {
            keys: pack_keys(keys, tokens),
            values: pack_values(values, tokens),
        }
    }
}

/// Pairs that hold `size` values.
pub(super) fn pairs(size: usize) -> usize {
    size.div_ceil(2)
}

/// Registers that hold `size` values.
pub(super) fn registers(size: usize) -> usize {
    size.div_ceil(LANES)
}

fn pack_keys(keys: Rows, tokens: usize) -> Vec<Pair> {
    let pairs = pairs(keys.size);
    let mut packed = vec![[0; 2]; tokens.div_ceil(LANES) * pairs * LANES];
    let mut row = vec![[0; 2]; pairs];
    let starts = (0..tokens).step_by(LANES);
    for (first, block) in starts.zip(packed.chunks_mut(pairs * LANES)) {
        for key in first..tokens.min(first + LANES) {
            pair_up(keys.row(key), &mut row);
            let column = block[key - first..].iter_mut().step_by(LANES);
            column.zip(&row).for_each(|(to, &pair)| *to = pair);
        }
    }
    packed
}

fn pack_values(values: Rows, tokens: usize) -> Vec<Pair> {
    let width = registers(values.size) * LANES;
    let mut packed = vec![[0; 2]; tokens.div_ceil(LANES) * (LANES / 2) * width];
    let firsts = (0..tokens).step_by(2);
    for (token, row) in firsts.zip(packed.chunks_mut(width)) {
        let first = row.iter_mut().zip(values.row(token));
        if token + 1 < tokens {
            let both = first.zip(values.row(token + 1));
            both.for_each(|((to, &a), &b)| *to = pair(a, b));
        } else {
            first.for_each(|(to, &a)| *to = pair(a, 0.0));
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_after_the_last_key_is_zero() {
        let values: Vec<f32> = (1..=9).map(|n| n as f32).collect();
        let rows = Rows {
            values: &values,
            stride: 3,
            size: 3,
        };
        let head = PackedHead::new(rows, rows, 3);
        let one = |a| pair(a, 0.0);
        let keys = [pair(1.0, 2.0), pair(4.0, 5.0), pair(7.0, 8.0), [0; 2]];
        assert_eq!(head.keys.len(), 2 * LANES);
        assert_eq!(head.keys[..4], keys);
        assert_eq!(
            head.keys[LANES..][..4],
            [one(3.0), one(6.0), one(9.0), [0; 2]]
        );
        let values = [pair(1.0, 4.0), pair(2.0, 5.0), pair(3.0, 6.0), [0; 2]];
        assert_eq!(head.values.len(), LANES / 2 * LANES);
        assert_eq!(head.values[..4], values);
        assert_eq!(
            head.values[LANES..][..4],
            [one(7.0), one(8.0), one(9.0), [0; 2]]
        );
        assert!(head.values[2 * LANES..].iter().all(|&pair| pair == [0; 2]));
    }
}
