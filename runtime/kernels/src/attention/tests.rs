//! Attention compared with its definition in f64.

use super::{Attention, AttentionShape, Visibility};
use crate::{CpuFeatures, Serial, pair};

/// `[rows, tokens, heads, kv_heads, head_size]`: whole and partial blocks, odd sizes, more registers than are summed at once.
const SHAPES: [[usize; 5]; 5] = [
    [1, 1, 1, 1, 8],
    [2, 35, 4, 2, 16],
    [1, 70, 3, 1, 7],
    [1, 33, 2, 2, 80],
    [2, 40, 6, 3, 64],
];

fn shape([rows, tokens, heads, kv_heads, head_size]: [usize; 5]) -> AttentionShape {
    AttentionShape {
        rows,
        tokens,
        heads,
        kv_heads,
        head_size,
    }
}

/// The same for the same seed, exact in bf16, so that the reference reads the same values.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let draw = |_| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        pair::from_bits(pair::to_bits(2.0 * value))
    };
    (0..count).map(draw).collect()
}

/// A head's attention of one token in f64.
fn reference(
    shape: &AttentionShape,
    [q, k, v]: [&[f32]; 3],
    [row, token, head]: [usize; 3],
    sees: &dyn Fn(usize) -> bool,
) -> Vec<f64> {
    let size = shape.head_size;
    let served = head / (shape.heads / shape.kv_heads);
    let place = |token, heads, head| ((row * shape.tokens + token) * heads + head) * size;
    let query = &q[place(token, shape.heads, head)..][..size];
    let keys = (0..shape.tokens).filter(|&key| sees(key));
    let keys: Vec<usize> = keys.map(|key| place(key, shape.kv_heads, served)).collect();
    let score = |&key: &usize| {
        let products = query.iter().zip(&k[key..]);
        let products = products.map(|(&a, &b)| f64::from(a) * f64::from(b));
        (products.sum::<f64>() / (size as f64).sqrt()).exp()
    };
    let weights: Vec<f64> = keys.iter().map(score).collect();
    let total: f64 = weights.iter().sum();
    let weighted = |at| {
        let terms = keys.iter().zip(&weights);
        terms
            .map(|(&key, w)| w * f64::from(v[key + at]))
            .sum::<f64>()
            / total
    };
    (0..size).map(weighted).collect()
}

fn attend(
    features: CpuFeatures,
    shape: &AttentionShape,
    [query, key, value]: [&[f32]; 3],
    visibility: &[Visibility],
) -> Vec<f32> {
    let mut output = vec![f32::NAN; query.len()];
    let attention = Attention {
        shape: *shape,
        query,
        key,
        value,
        visibility,
    };
    let Ok(()) = attention.run(features, &mut output, &Serial);
    output
}

fn for_each_shape(check: impl Fn(&AttentionShape, [&[f32]; 3])) {
    for sizes in SHAPES {
        let shape = shape(sizes);
        let [q, kv] = [shape.heads, shape.kv_heads]
            .map(|heads| shape.rows * shape.tokens * heads * shape.head_size);
        check(&shape, [&values(q, 1), &values(kv, 2), &values(kv, 3)]);
    }
}

fn all_features() -> [CpuFeatures; 3] {
    let features = CpuFeatures::get();
    [features, features.without_avx512(), CpuFeatures::default()]
}

fn compare(
    shape: &AttentionShape,
    inputs: [&[f32]; 3],
    visibility: &[Visibility],
    sees: &dyn Fn(usize, usize) -> bool,
) {
    for features in all_features() {
        let output = attend(features, shape, inputs, visibility);
        for (index, got) in output.chunks(shape.head_size).enumerate() {
            let (token, head) = (index / shape.heads, index % shape.heads);
            let at = [token / shape.tokens, token % shape.tokens, head];
            let expected = reference(shape, inputs, at, &|key| sees(at[1], key));
            for (&got, expected) in got.iter().zip(expected) {
                // Weights of at most 1 in 8 bits, times values of at most 2.
                let differs = (f64::from(got) - expected).abs();
                assert!(
                    differs < 2.0 / 256.0,
                    "{features:?}, {at:?}: {got}, {expected}"
                );
            }
        }
    }
}

#[test]
fn full_attention_is_the_weighted_sum_of_all_values() {
    for_each_shape(|shape, inputs| {
        let full = [Visibility::full(shape.tokens)];
        compare(shape, inputs, &full, &|_, _| true);
    });
}

#[test]
fn in_a_forest_a_token_attends_to_the_keys_that_it_sees() {
    for_each_shape(|shape, inputs| {
        let third = shape.tokens / 3;
        let documents = vec![0; shape.tokens];
        let branch = |token: usize| token.checked_div(third).unwrap_or(0).min(2) as i32;
        let branches: Vec<i32> = (0..shape.tokens).map(branch).collect();
        let visibility = vec![Visibility::forest(&documents, &branches); shape.rows];
        let sees = |i: usize, j: usize| j <= i && (branches[j] == 0 || branches[j] == branches[i]);
        compare(shape, inputs, &visibility, &sees);
    });
}

#[test]
fn in_windows_a_token_attends_to_those_of_its_own() {
    for_each_shape(|shape, inputs| {
        let ids: Vec<i32> = (0..shape.tokens).map(|t| (t / 5 % 3) as i32).collect();
        let windows = vec![Visibility::windows(&ids); shape.rows];
        compare(shape, inputs, &windows, &|i, j| ids[i] == ids[j]);
    });
}

#[test]
fn nan_shows_where_it_is_seen() {
    let shape = shape([1, 40, 1, 1, 16]);
    let inputs = [1, 2, 3].map(|seed| values(40 * 16, seed));
    let visibility = [Visibility::forest(&[0; 40], &[0; 40])];
    for spoilt in 0..3 {
        let mut inputs = inputs.clone();
        inputs[spoilt][20 * 16] = f32::NAN;
        let inputs = [&*inputs[0], &inputs[1], &inputs[2]];
        let output = attend(CpuFeatures::get(), &shape, inputs, &visibility);
        let nan = |token: usize| output[token * 16].is_nan();
        // 0 · NaN is NaN: a value spoils the queries that see another key of its block.
        let untouched = if spoilt == 2 { 16 } else { 20 };
        let before = (0..untouched).all(|token| !nan(token));
        assert!(before && nan(20), "{spoilt}");
        assert_eq!(nan(30), spoilt > 0);
    }
}

/// Registers differ by sums that are rounded once more.
#[test]
fn all_registers_compute_the_same() {
    let shape = shape([1, 45, 1, 1, 24]);
    let inputs = [1, 2, 3].map(|seed| values(45 * 24, seed));
    let inputs = [&*inputs[0], &inputs[1], &inputs[2]];
    let visibility = [Visibility::forest(&[0; 45], &[0; 45])];
    let [best, avx2, portable] =
        all_features().map(|features| attend(features, &shape, inputs, &visibility));
    for (got, expected) in best.iter().zip(&portable).chain(avx2.iter().zip(&portable)) {
        // A weight halfway between two bf16 values may go either way.
        assert!((got - expected).abs() < 1.0 / 256.0, "{got}, {expected}");
    }
}
