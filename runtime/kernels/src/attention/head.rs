//! The arithmetic of a few queries of one head: softmax(q·kᵀ·scale)·v over the keys that each sees. Queries, keys, values and
//! weights are bf16; all sums are f32, the softmax's included.

use std::f32::consts::LOG2_E;

use super::packed::{pairs, registers};
use super::visibility::{KeyBlock, QUERIES};
use crate::activations::EXP2;
use crate::lanes::{LANES, Lanes};
use crate::pair::Pair;

/// Queries, keys and values of one head.
pub(super) struct Head<'a> {
    /// [`QUERIES`] rows of pairs, of which `count` are queries and the others zero.
    pub(super) queries: &'a [Pair],
    pub(super) count: usize,
    /// Values of a query, key or value row.
    pub(super) size: usize,
    pub(super) keys: &'a [Pair],
    pub(super) values: &'a [Pair],
    pub(super) visible: &'a [KeyBlock],
    pub(super) scale: f32,
}

/// Scratch memory for a block of queries.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[queries, visible blocks, keys]`.
    scores: Vec<f32>,
    /// `[queries, visible blocks, pairs of keys]`.
    weights: Vec<Pair>,
    /// Each query's sum of weights.
    sums: [f32; QUERIES],
}

/// Where weighted sums go: a row for each query, one every `stride` values.
pub(super) struct Output<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
}

impl Head<'_> {
    /// The block's keys: `[pairs of values, keys]`.
    fn keys_of(&self, block: &KeyBlock) -> &[[Pair; LANES]] {
        let pairs = pairs(self.size);
        &self.keys.as_chunks().0[block.index * pairs..][..pairs]
    }

    /// The block's values: `[pairs of keys, registers, values]`.
    fn values_of(&self, block: &KeyBlock) -> &[[Pair; LANES]] {
        let length = LANES / 2 * registers(self.size);
        &self.values.as_chunks().0[block.index * length..][..length]
    }
}

/// Computes with registers of L: scores of SCORED queries with two blocks of keys at once, weighted sums of SUMMED queries in
/// up to four registers. Always inlined, so that it is compiled for the features of its caller.
#[inline(always)]
pub(super) fn attend<L: Lanes, const SCORED: usize, const SUMMED: usize>(
    token: L::Token,
    head: &Head,
    scratch: &mut Scratch,
    into: &mut Output,
) {
    let blocks = head.visible.len();
    scratch.scores.resize(QUERIES * blocks * LANES, 0.0);
    scratch.weights.resize(QUERIES * blocks * LANES / 2, [0; 2]);
    for first in (0..head.count).step_by(SCORED) {
        let (twos, one) = head.visible.as_chunks();
        for (index, two) in twos.iter().enumerate() {
            score::<L, SCORED, 2>(token, head, two, [first, 2 * index], &mut scratch.scores);
        }
        if let [block] = one {
            let one = std::array::from_ref(block);
            score::<L, SCORED, 1>(token, head, one, [first, blocks - 1], &mut scratch.scores);
        }
    }
    for query in 0..head.count {
        softmax_row::<L>(token, head, query, scratch);
    }
    let width = registers(head.size);
    for first in (0..head.count).step_by(SUMMED) {
        for register in (0..width).step_by(4) {
            let at = [first, register];
            match width - register {
                1 => weighted_sum::<L, SUMMED, 1>(token, head, scratch, at, into),
                2 => weighted_sum::<L, SUMMED, 2>(token, head, scratch, at, into),
                3 => weighted_sum::<L, SUMMED, 3>(token, head, scratch, at, into),
                _ => weighted_sum::<L, SUMMED, 4>(token, head, scratch, at, into),
            }
        }
    }
}

/// Scores of queries from `first` on with a few blocks of keys, the first of which is number `at` of the visible ones.
#[inline(always)]
fn score<L: Lanes, const SCORED: usize, const BLOCKS: usize>(
    token: L::Token,
    head: &Head,
    visible: &[KeyBlock; BLOCKS],
    [first, at]: [usize; 2],
    scores: &mut [f32],
) {
    let pairs = pairs(head.size);
    let query = |query| &head.queries[(first + query) * pairs..][..pairs];
    let queries: [&[Pair]; SCORED] = std::array::from_fn(query);
    let keys: [&[[Pair; LANES]]; BLOCKS] =
        std::array::from_fn(|block| head.keys_of(&visible[block]));
    let mut sums = [[L::zero(token); BLOCKS]; SCORED];
    for pair in 0..pairs {
        for (sums, query) in sums.iter_mut().zip(&queries) {
            for (sum, keys) in sums.iter_mut().zip(&keys) {
                *sum = sum.dot2_bf16(query[pair], &keys[pair]);
            }
        }
    }
    let row = head.visible.len() * LANES;
    for (query, sums) in (first..).zip(sums) {
        let into = &mut scores[query * row + at * LANES..][..BLOCKS * LANES];
        let blocks = into.as_chunks_mut().0.iter_mut().zip(sums);
        for ((into, sums), block) in blocks.zip(visible) {
            sums.mask_neg_inf(block.masks[query]).store(into);
        }
    }
}

/// A query's scores → its weights, not yet divided by their sum, and the sum.
#[inline(always)]
fn softmax_row<L: Lanes>(token: L::Token, head: &Head, query: usize, scratch: &mut Scratch) {
    let row = head.visible.len() * LANES;
    let scores = scratch.scores[query * row..][..row].as_chunks().0;
    let weights = scratch.weights[query * row / 2..][..row / 2].as_chunks_mut();
    let mut highest = L::splat(token, f32::NEG_INFINITY);
    for scores in scores {
        highest = highest.max(L::load(token, scores));
    }
    let highest = highest.to_array().into_iter();
    let highest = L::splat(token, highest.fold(f32::NEG_INFINITY, f32::max));
    let scale = L::splat(token, head.scale * LOG2_E);
    let mut sum = L::zero(token);
    for (scores, weights) in scores.iter().zip(weights.0) {
        let weight = exp2(token, L::load(token, scores).sub(highest).mul(scale));
        sum = sum.add(weight);
        *weights = weight.to_bf16();
    }
    scratch.sums[query] = sum.to_array().into_iter().sum();
}

/// Coefficients of 2^x between −1/2 and 1/2, with a relative error below 3e-6.
const POWERS: &[f32] = EXP2.split_at(6).0;

/// 2 to the power of exponents that are not above 0.
#[inline(always)]
fn exp2<L: Lanes>(token: L::Token, exponent: L) -> L {
    let exponent = L::splat(token, -150.0).max(exponent);
    let integer = exponent.round();
    let x = exponent.sub(integer);
    let mut power = L::splat(token, POWERS[POWERS.len() - 1]);
    for &coefficient in POWERS.iter().rev().skip(1) {
        power = power.mul_add(x, L::splat(token, coefficient));
    }
    power.scale_by_pow2(integer)
}

/// Weighted sums of values for queries from `first` on, a few registers of them from `register` on.
#[inline(always)]
fn weighted_sum<L: Lanes, const SUMMED: usize, const REGISTERS: usize>(
    token: L::Token,
    head: &Head,
    scratch: &Scratch,
    [first, register]: [usize; 2],
    into: &mut Output,
) {
    let (row, width) = (head.visible.len() * LANES / 2, registers(head.size));
    let weights = |query| {
        scratch.weights[(first + query) * row..][..row]
            .as_chunks()
            .0
    };
    let weights: [&[[Pair; LANES / 2]]; SUMMED] = std::array::from_fn(weights);
    let mut sums = [[L::zero(token); REGISTERS]; SUMMED];
    for (index, block) in head.visible.iter().enumerate() {
        let values = head.values_of(block);
        for pair in 0..LANES / 2 {
            let values = &values[pair * width + register..][..REGISTERS];
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = sum.dot2_bf16(weights[index][pair], values);
                }
            }
        }
    }
    let columns = register * LANES..head.size.min((register + REGISTERS) * LANES);
    for (query, sums) in (first..head.count).zip(sums) {
        let total = scratch.sums[query];
        let into = &mut into.values[query * into.stride..][columns.clone()];
        for (into, sums) in into.chunks_mut(LANES).zip(sums) {
            let sums = into.iter_mut().zip(sums.to_array());
            sums.for_each(|(to, sum)| *to = sum / total);
        }
    }
}
