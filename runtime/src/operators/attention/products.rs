//! The arithmetic of a few queries of one head: softmax(q·kᵀ·scale)·v over the keys that each sees, with queries, keys,
//! values and weights in bf16 and all sums, the softmax included, in f32.

use std::f32::consts::LOG2_E;

use super::super::activations::EXP2;
use super::lanes::{Lanes, Portable};
use super::packed::{LANES, Pair, pairs, registers};
use super::seen::{QUERIES, Seen};

/// Queries, keys and values of one head.
pub(super) struct Head<'a> {
    /// [`QUERIES`] rows of pairs, of which `count` are queries and the others zero.
    pub(super) queries: &'a [Pair],
    pub(super) count: usize,
    /// Numbers of a query, key or value.
    pub(super) size: usize,
    pub(super) keys: &'a [Pair],
    pub(super) values: &'a [Pair],
    pub(super) seen: &'a [Seen],
    pub(super) scale: f32,
}

/// Memory for what becomes of a block's scores.
#[derive(Default)]
pub(super) struct Scratch {
    /// [queries, seen blocks, keys].
    scores: Vec<f32>,
    /// [queries, seen blocks, pairs of keys].
    weights: Vec<Pair>,
    /// What each query's weights sum to.
    sums: [f32; QUERIES],
}

/// Where mixed values go: each query's row begins `stride` numbers after the last one's.
pub(super) struct Output<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) stride: usize,
}

impl Head<'_> {
    /// The block's keys, [pairs of numbers, keys].
    fn keys_of(&self, seen: &Seen) -> &[[Pair; LANES]] {
        let pairs = pairs(self.size);
        &self.keys.as_chunks().0[seen.block * pairs..][..pairs]
    }

    /// The block's values, [pairs of keys, registers, numbers].
    fn values_of(&self, seen: &Seen) -> &[[Pair; LANES]] {
        let length = LANES / 2 * registers(self.size);
        &self.values.as_chunks().0[seen.block * length..][..length]
    }
}

/// With the best registers that the processor has.
pub(super) fn run(head: &Head, scratch: &mut Scratch, into: &mut Output) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::attended(head, scratch, into) {
        return;
    }
    attend::<Portable, 2, 1>(head, scratch, into);
}

/// Computes with registers of L: scores of SCORED queries with two blocks of keys at once, mixed values of MIXED queries in
/// up to four registers. Always inlined, so that it is compiled for the features of its caller.
#[inline(always)]
pub(super) fn attend<L: Lanes, const SCORED: usize, const MIXED: usize>(
    head: &Head,
    scratch: &mut Scratch,
    into: &mut Output,
) {
    let blocks = head.seen.len();
    scratch.scores.resize(QUERIES * blocks * LANES, 0.0);
    scratch.weights.resize(QUERIES * blocks * LANES / 2, 0);
    for first in (0..head.count).step_by(SCORED) {
        let (twos, one) = head.seen.as_chunks();
        for (index, two) in twos.iter().enumerate() {
            score::<L, SCORED, 2>(head, two, [first, 2 * index], &mut scratch.scores);
        }
        if let [seen] = one {
            let one = std::array::from_ref(seen);
            score::<L, SCORED, 1>(head, one, [first, blocks - 1], &mut scratch.scores);
        }
    }
    for query in 0..head.count {
        weigh::<L>(head, query, scratch);
    }
    let width = registers(head.size);
    for first in (0..head.count).step_by(MIXED) {
        for register in (0..width).step_by(4) {
            let at = [first, register];
            match width - register {
                1 => mix::<L, MIXED, 1>(head, scratch, at, into),
                2 => mix::<L, MIXED, 2>(head, scratch, at, into),
                3 => mix::<L, MIXED, 3>(head, scratch, at, into),
                _ => mix::<L, MIXED, 4>(head, scratch, at, into),
            }
        }
    }
}

/// Scores of queries from `first` on with a few blocks of keys, which are seen `at`th.
#[inline(always)]
fn score<L: Lanes, const SCORED: usize, const BLOCKS: usize>(
    head: &Head,
    seen: &[Seen; BLOCKS],
    [first, at]: [usize; 2],
    scores: &mut [f32],
) {
    let pairs = pairs(head.size);
    let query = |query| &head.queries[(first + query) * pairs..][..pairs];
    let queries: [&[Pair]; SCORED] = std::array::from_fn(query);
    let keys: [&[[Pair; LANES]]; BLOCKS] = std::array::from_fn(|block| head.keys_of(&seen[block]));
    let mut sums = [[L::zero(); BLOCKS]; SCORED];
    for pair in 0..pairs {
        for (sums, query) in sums.iter_mut().zip(&queries) {
            for (sum, keys) in sums.iter_mut().zip(&keys) {
                *sum = sum.plus_products(query[pair], &keys[pair]);
            }
        }
    }
    let row = head.seen.len() * LANES;
    for (query, sums) in (first..).zip(sums) {
        let into = &mut scores[query * row + at * LANES..][..BLOCKS * LANES];
        let blocks = into.as_chunks_mut().0.iter_mut().zip(sums);
        for ((into, sums), seen) in blocks.zip(seen) {
            sums.or_least(seen.by_query[query]).store(into);
        }
    }
}

/// A query's scores → its weights and their sum.
#[inline(always)]
fn weigh<L: Lanes>(head: &Head, query: usize, scratch: &mut Scratch) {
    let row = head.seen.len() * LANES;
    let scores = scratch.scores[query * row..][..row].as_chunks().0;
    let weights = scratch.weights[query * row / 2..][..row / 2].as_chunks_mut();
    let highest = scores
        .iter()
        .fold(L::all(f32::NEG_INFINITY), |highest, scores| {
            highest.max(L::load(scores))
        });
    let highest = L::all(
        highest
            .numbers()
            .into_iter()
            .fold(f32::NEG_INFINITY, f32::max),
    );
    let scale = L::all(head.scale * LOG2_E);
    let mut sum = L::zero();
    for (scores, weights) in scores.iter().zip(weights.0) {
        let weight = exp2(L::load(scores).minus(highest).times(scale));
        sum = sum.plus(weight);
        *weights = weight.rounded();
    }
    scratch.sums[query] = sum.numbers().into_iter().sum();
}

/// Coefficients of 2^x between −1/2 and 1/2: off by less than 3e-6 of it.
const POWERS: &[f32] = EXP2.split_at(6).0;

/// 2 to the power of exponents that are not above 0.
#[inline(always)]
fn exp2<L: Lanes>(exponent: L) -> L {
    let exponent = L::all(-150.0).max(exponent);
    let whole = exponent.whole();
    let x = exponent.minus(whole);
    let highest = L::all(POWERS[POWERS.len() - 1]);
    let powers = POWERS.iter().rev().skip(1);
    let power = powers.fold(highest, |sum, power| sum.times_plus(x, L::all(*power)));
    power.times_two_to(whole)
}

/// Mixed values of queries from `first` on, a few registers of them from `register` on.
#[inline(always)]
fn mix<L: Lanes, const MIXED: usize, const REGISTERS: usize>(
    head: &Head,
    scratch: &Scratch,
    [first, register]: [usize; 2],
    into: &mut Output,
) {
    let (row, width) = (head.seen.len() * LANES / 2, registers(head.size));
    let weights = |query| {
        scratch.weights[(first + query) * row..][..row]
            .as_chunks()
            .0
    };
    let weights: [&[[Pair; LANES / 2]]; MIXED] = std::array::from_fn(weights);
    let mut sums = [[L::zero(); REGISTERS]; MIXED];
    for (index, seen) in head.seen.iter().enumerate() {
        let values = head.values_of(seen);
        for pair in 0..LANES / 2 {
            let values = &values[pair * width + register..][..REGISTERS];
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = sum.plus_products(weights[index][pair], values);
                }
            }
        }
    }
    let numbers = register * LANES..head.size.min((register + REGISTERS) * LANES);
    for (query, sums) in (first..head.count).zip(sums) {
        let total = scratch.sums[query];
        let into = &mut into.numbers[query * into.stride..][numbers.clone()];
        for (into, sums) in into.chunks_mut(LANES).zip(sums) {
            let mixed = sums.numbers().into_iter();
            into.iter_mut()
                .zip(mixed)
                .for_each(|(to, sum)| *to = sum / total);
        }
    }
}
