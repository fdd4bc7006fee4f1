//! The operator's arithmetic against the definition in f64.

use super::lanes::Portable;
use super::packed::{self, PackedHead, Rows, pair_up, pairs};
use super::products::{self, Head, Output, Scratch};
use super::seen::{self, Block, QUERIES};
use super::shape::Shape;

/// (rows, tokens, heads, kv_heads, size): whole and broken blocks, odd sizes, more registers than are mixed at once.
const SHAPES: [[usize; 5]; 5] = [
    [1, 1, 1, 1, 8],
    [2, 35, 4, 2, 16],
    [1, 70, 3, 1, 7],
    [1, 33, 2, 2, 80],
    [2, 40, 6, 3, 64],
];

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let draw = |_| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let number = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        // In bf16 already, so that the reference has no other numbers.
        f32::from_bits(packed::rounded(2.0 * number) << 16)
    };
    (0..count).map(draw).collect()
}

/// A head's attention of one token in f64.
fn reference(
    shape: &Shape,
    [q, k, v]: [&[f32]; 3],
    at: [usize; 3],
    sees: &dyn Fn(usize) -> bool,
) -> Vec<f64> {
    let [row, token, head] = at;
    let served = head / (shape.heads / shape.kv_heads);
    let place = |token, heads, head| ((row * shape.tokens + token) * heads + head) * shape.size;
    let query = &q[place(token, shape.heads, head)..][..shape.size];
    let keys = (0..shape.tokens)
        .filter(|&key| sees(key))
        .map(|key| place(key, shape.kv_heads, served));
    let keys: Vec<usize> = keys.collect();
    let score = |&key: &usize| {
        let products = query
            .iter()
            .zip(&k[key..])
            .map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.sum::<f64>() / (shape.size as f64).sqrt()
    };
    let weights: Vec<f64> = keys.iter().map(score).map(f64::exp).collect();
    let total: f64 = weights.iter().sum();
    let mixed = |number| {
        keys.iter()
            .zip(&weights)
            .map(|(&key, w)| w * f64::from(v[key + number]))
            .sum::<f64>()
    };
    (0..shape.size)
        .map(|number| mixed(number) / total)
        .collect()
}

/// As the operator does, without a session.
fn attend(shape: &Shape, inputs: [&[f32]; 3], seen: &[Vec<Block>]) -> Vec<f32> {
    let heads = shape.rows * shape.kv_heads;
    let packed: Vec<_> = (0..heads)
        .map(|head| shape.pack(head, inputs[1], inputs[2]))
        .collect();
    let mut output = vec![f32::NAN; inputs[0].len()];
    for task in shape.tasks(seen, &mut output) {
        shape.run(&task, inputs[0], &packed);
    }
    output
}

fn each(check: impl Fn(&Shape, [&[f32]; 3])) {
    for [rows, tokens, heads, kv_heads, size] in SHAPES {
        let shape = Shape {
            rows,
            tokens,
            heads,
            kv_heads,
            size,
        };
        let [q, kv] = [heads, kv_heads].map(|heads| rows * tokens * heads * size);
        check(&shape, [&numbers(q, 1), &numbers(kv, 2), &numbers(kv, 3)]);
    }
}

fn compare(
    shape: &Shape,
    inputs: [&[f32]; 3],
    seen: &[Vec<Block>],
    sees: &dyn Fn(usize, usize) -> bool,
) {
    let output = attend(shape, inputs, seen);
    for (index, got) in output.chunks(shape.size).enumerate() {
        let (token, head) = (index / shape.heads, index % shape.heads);
        let at = [token / shape.tokens, token % shape.tokens, head];
        let expected = reference(shape, inputs, at, &|key| sees(at[1], key));
        for (&got, expected) in got.iter().zip(expected) {
            // Weights of at most 1 in 8 bits, times values of at most 2.
            assert!(
                (f64::from(got) - expected).abs() < 2.0 / 256.0,
                "{at:?}: {got}, {expected}"
            );
        }
    }
}

#[test]
fn everything_seen_is_mixed() {
    each(|shape, inputs| {
        let seen = [seen::everything(shape.tokens)];
        compare(shape, inputs, &seen, &|_, _| true);
    });
}

#[test]
fn of_a_tree_is_mixed_what_a_token_sees() {
    each(|shape, inputs| {
        let third = shape.tokens / 3;
        let documents = vec![0; shape.tokens];
        let branches: Vec<i32> = (0..shape.tokens)
            .map(|token| token.checked_div(third).unwrap_or(0).min(2) as i32)
            .collect();
        let seen = vec![seen::tree(&documents, &branches); shape.rows];
        let sees = |i: usize, j: usize| j <= i && (branches[j] == 0 || branches[j] == branches[i]);
        compare(shape, inputs, &seen, &sees);
    });
}

#[test]
fn what_is_no_number_shows_where_it_is_seen() {
    let shape = Shape {
        rows: 1,
        tokens: 40,
        heads: 1,
        kv_heads: 1,
        size: 16,
    };
    let inputs = [1, 2, 3].map(|seed| numbers(40 * 16, seed));
    let seen = [seen::tree(&[0; 40], &[0; 40])];
    for spoilt in 0..3 {
        let mut inputs = inputs.clone();
        inputs[spoilt][20 * 16] = f32::NAN;
        let output = attend(&shape, [&inputs[0], &inputs[1], &inputs[2]], &seen);
        let nan = |token: usize| output[token * 16].is_nan();
        // No weight times no number is none: a value spoils those who see another key of its block.
        let untouched = if spoilt == 2 { 16 } else { 20 };
        assert!(
            (0..untouched).all(|token| !nan(token)) && nan(20),
            "{spoilt}"
        );
        assert_eq!(nan(30), spoilt > 0);
    }
}

/// What runs elsewhere computes the same here, but for sums that are rounded once more.
#[test]
fn all_registers_compute_the_same() {
    let (tokens, size) = (45, 24);
    let inputs = [1, 2, 3].map(|seed| numbers(tokens * size, seed));
    let rows = |numbers| Rows {
        numbers,
        stride: size,
        size,
    };
    let packed = PackedHead::new(rows(&inputs[1]), rows(&inputs[2]), tokens);
    for block in seen::tree(&vec![0; tokens], &vec![0; tokens]) {
        let mut queries = vec![0; QUERIES * pairs(size)];
        for (token, into) in block.queries.clone().zip(queries.chunks_mut(pairs(size))) {
            pair_up(&inputs[0][token * size..][..size], into);
        }
        let head = Head {
            queries: &queries,
            count: block.queries.len(),
            size,
            keys: &packed.keys,
            values: &packed.values,
            seen: &block.seen,
            scale: 0.2,
        };
        let mixed = |run: fn(&Head, &mut Scratch, &mut Output)| {
            let mut numbers = vec![0.0; head.count * size];
            let mut into = Output {
                numbers: &mut numbers,
                stride: size,
            };
            run(&head, &mut Scratch::default(), &mut into);
            numbers
        };
        let (here, anywhere) = (
            mixed(products::run),
            mixed(products::attend::<Portable, 2, 1>),
        );
        for (here, anywhere) in here.iter().zip(&anywhere) {
            // A weight on a tie between two of bf16's numbers may go either way.
            assert!((here - anywhere).abs() < 1.0 / 256.0, "{here}, {anywhere}");
        }
    }
}
