//! Each op of the network in LibTorch and in ONNX Runtime, on the same random values.
//!
//! Tolerance: 1e-5 absolute. Inputs and weights are uniform in [−1, 1) and results of order 1, where f32 has a spacing of
//! 1e-7; the engines differ in the order of their sums, which gives 3e-7 here. The patch embedding, the longest sum (48
//! terms up to 2.6, results up to 15), differs by 3e-6. Of the wrong ops that were tried on every line of the table,
//! Gelu's approximation by tanh came closest: it is off by 1.5e-4.
//!
//! In integers, the bound of a linear layer of eight inputs: each product may differ by half the scale of its weight and half
//! the scale of its input: 1/127 in 8 bits and 1/8 in 4 bits, whose inputs have 8 bits too.
//!
//! In bf16 for the CPU, the same bound: each of eight products may differ by half a unit in the last place of its weight and
//! of its input, 2⁻⁹ each.
//!
//! In fp16, 5e-3: the spacing is 5e-4 at 1, and a linear layer rounds its inputs, weights and result. ONNX Runtime's CPU
//! provider computes fp16 in f32; it has no bf16 MatMul.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod engines;

use engines::{agree, bytes, floats, i32s, i64s};
use seeward_export::GraphOps;
use seeward_models::Result;
use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use seeward_models::net::{Activation, Bias, Ops};
use seeward_train::libtorch::interpreter::Torch;

/// One test per line: `name(ops, inputs) [weights with their shapes] => computation`.
macro_rules! table {
    ($($case:ident($ops:ident $(, $input:ident: $value:expr)+)
        $([$($weight:literal: $shape:expr),+])? => $computed:expr;)+) => {$(
        #[test]
        fn $case() {
            fn body<O: Ops + 'static>($ops: &mut O, inputs: &[O::T]) -> Result<O::T> {
                let [$($input),+] = inputs else { panic!("{} inputs", inputs.len()) };
                $computed
            }
            let inputs = [$($value(stringify!($input))),+];
            let weights = [$($(floats($shape)($weight)),+)?];
            agree(stringify!($case), &inputs, &weights, body::<Torch>, body::<GraphOps>);
        }
    )+};
}

table! {
    embedding(ops, ids: i64s([2, 3], [0, 10, 4, 4, 1, 0])) ["table.weight": [11, 8]]
        => ops.embedding("table", ids);

    linear(ops, x: floats([2, 3, 8])) ["l.weight": [5, 8]]
        => ops.linear("l", x, Bias::No);
    linear_with_a_bias(ops, x: floats([2, 3, 8])) ["l.weight": [5, 8], "l.bias": [5]]
        => ops.linear("l", x, Bias::Yes);
    linear_over_gathered_rows(ops, x: floats([4, 8])) ["l.weight": [1, 8]]
        => ops.linear("l", x, Bias::No);
    linear_of_a_readout(ops, x: floats([4, 8])) ["l.weight": [5, 8], "l.bias": [5]]
        => ops.readout(|ops| ops.linear("l", x, Bias::Yes));

    // The epsilon is large, so that it has a visible effect.
    layer_norm(ops, x: floats([2, 3, 16])) ["n.weight": [16], "n.bias": [16]]
        => ops.layer_norm("n", x, 0.05);
    rms_norm(ops, x: floats([2, 3, 16])) ["n.weight": [16]]
        => ops.rms_norm("n", x, 0.05);
    rms_norm_of_heads(ops, x: floats([2, 3, 16])) ["n.weight": [4]]
        => ops.rms_norm_heads("n", x, 4, 0.05);

    // Higher than wide, to distinguish rows from columns.
    patch_embedding(ops, tiles: bytes([2, 12, 8, 3])) ["p.weight": [6, 3, 4, 4], "p.bias": [6]]
        => ops.patch_embedding("p", tiles, 4, Normalization::Imagenet);

    // Two frames, whose weights add up.
    patch_projection(ops, patches: bytes([1, 5, 48])) ["p.weight": [6, 3, 2, 4, 4], "p.bias": [6]]
        => ops.patch_projection("p", patches, Bias::Yes, Normalization::Clip);
    patch_projection_without_a_bias(ops, patches: bytes([1, 5, 48])) ["p.weight": [6, 3, 2, 4, 4]]
        => ops.patch_projection("p", patches, Bias::No, Normalization::Imagenet);
    embedding_sum(
        ops, ids: i64s([1, 2, 4], [0, 3, 6, 6, 1, 2, 4, 5]), weights: floats([1, 2, 4])
    ) ["table.weight": [7, 8]] => ops.embedding_sum("table", ids, weights);

    prepend_parameter(ops, x: floats([2, 3, 8])) ["class": [1, 1, 8]]
        => ops.prepend_parameter("class", x);
    add_parameter(ops, x: floats([2, 3, 8])) ["position": [1, 3, 8]]
        => ops.add_parameter("position", x);
    mul_parameter(ops, x: floats([2, 3, 8])) ["scale": [8]]
        => ops.mul_parameter("scale", x);

    gelu(ops, x: floats([2, 3, 64])) => ops.activation(Activation::Gelu, x);
    gelu_by_tanh(ops, x: floats([2, 3, 64])) => ops.activation(Activation::GeluTanh, x);
    gelu_by_a_sigmoid(ops, x: floats([2, 3, 64])) => ops.activation(Activation::QuickGelu, x);
    silu(ops, x: floats([2, 3, 64])) => ops.activation(Activation::Silu, x);
    relu(ops, x: floats([2, 3, 64])) => ops.activation(Activation::Relu, x);
    tanh(ops, x: floats([2, 3, 64])) => ops.activation(Activation::Tanh, x);
    add(ops, x: floats([2, 3, 8]), y: floats([2, 3, 8])) => ops.add(x, y);
    mul(ops, x: floats([2, 3, 8]), y: floats([2, 3, 8])) => ops.mul(x, y);

    split(ops, x: floats([2, 3, 8])) ["0.weight": [5, 1], "1.weight": [5, 2], "2.weight": [5, 5]] => {
        let parts = ops.split(x, 1, &[1, 2, 5])?;
        weighted_separately(ops, &parts)
    };
    split_of_groups(ops, x: floats([2, 3, 12])) ["0.weight": [5, 4], "1.weight": [5, 2], "2.weight": [5, 6]] => {
        let parts = ops.split(x, 2, &[2, 1, 3])?;
        weighted_separately(ops, &parts)
    };

    concatenate(ops, x: floats([1, 3, 2]), y: floats([1, 3, 4])) => ops.concatenate(&[x.clone(), y.clone()]);
    merge_tokens(ops, x: floats([1, 8, 3])) => ops.merge_tokens(x, 4, 3);
    skip_tokens(ops, x: floats([2, 5, 8])) => ops.skip_tokens(x, 2);
    pixel_shuffle(ops, x: floats([2, 36, 3])) => ops.pixel_shuffle(x, 6, 2, TokenOrder::ByRow);
    pixel_shuffle_by_column(ops, x: floats([2, 36, 3]))
        => ops.pixel_shuffle(x, 6, 2, TokenOrder::ByColumn);
    squeeze_last(ops, x: floats([5, 1])) => ops.squeeze_last(x);

    scatter_rows(ops, x: floats([2, 4, 6]), source: floats([3, 6]), at: i64s([3], [6, 0, 3]))
        => ops.scatter_rows(x, source, at);
    scatter_no_rows(ops, x: floats([2, 4, 6]), source: floats([0, 6]), at: i64s([0], []))
        => ops.scatter_rows(x, source, at);
    gather_rows(ops, x: floats([2, 4, 6]), at: i64s([4], [5, 0, 5, 7]))
        => ops.gather_rows(x, at);
    gather_rows_of_a_matrix(ops, x: floats([4, 6]), at: i64s([2], [3, 1]))
        => ops.gather_rows(x, at);

    attention(ops, q: floats([2, 5, 12]), k: floats([2, 5, 12]), v: floats([2, 5, 12]))
        => ops.attention(q, k, v, None, (3, 3));
    // Row 0: a document of a prefix and two branches, then padding. Row 1: two documents, then padding twice.
    attention_over_a_forest(
        ops, q: floats([2, 7, 32]), k: floats([2, 7, 16]), v: floats([2, 7, 16]),
        documents: i32s([2, 7], [0, 0, 0, 0, 0, 0, 1, /**/ 0, 0, 0, 1, 1, 2, 3]),
        branches: i32s([2, 7], [0, 0, 1, 1, 2, 2, 0, /**/ 0, 1, 2, 0, 1, 0, 0])
    ) => {
        let mask = ops.tree_mask(documents, branches)?;
        ops.attention(q, k, v, Some(&mask), (4, 2))
    };

    attention_in_windows(
        ops, q: floats([1, 6, 16]), k: floats([1, 6, 16]), v: floats([1, 6, 16]),
        windows: i32s([1, 6], [0, 1, 0, 2, 1, 0])
    ) => {
        let mask = ops.window_mask(windows)?;
        ops.attention(q, k, v, Some(&mask), (2, 2))
    };

    // Windows of different lengths, equal ids in both rows.
    attention_in_windows_of_two_rows(
        ops, q: floats([2, 5, 16]), k: floats([2, 5, 16]), v: floats([2, 5, 16]),
        windows: i32s([2, 5], [0, 0, 2, 0, 1, /**/ 1, 0, 1, 1, 1])
    ) => {
        let mask = ops.window_mask(windows)?;
        ops.attention(q, k, v, Some(&mask), (2, 2))
    };

    // The op is linear in its tables: random ones are sufficient.
    rope(
        ops, x: floats([2, 3, 16]), cos: floats([7, 4]), sin: floats([7, 4]),
        positions: i64s([2, 3], [0, 1, 6, 3, 3, 2])
    ) => {
        let table = ops.rope_table(cos, sin, positions)?;
        ops.rope(x, &table, 2)
    };

    scopes(ops, x: floats([2, 3, 8])) ["a.b.p": [8], "a.p": [8], "p": [8]] => {
        let inner = ops.scope("a", |ops| {
            let inner = ops.scope("b", |ops| ops.mul_parameter("p", x))?;
            ops.add_parameter("p", &inner)
        })?;
        ops.mul_parameter("p", &inner)
    };
    blocks(ops, x: floats([2, 3, 8])) ["0.p": [8], "1.p": [8]] => {
        let x = ops.block("0", x, |ops, x| ops.mul_parameter("p", x))?;
        ops.block("1", &x, |ops, x| ops.mul_parameter("p", x))
    };
}

/// The sum of a split's parts, each through separate weights, so that exchanged parts change it.
fn weighted_separately<O: Ops>(ops: &mut O, parts: &[O::T]) -> Result<O::T> {
    let mut sum = ops.linear("0", &parts[0], Bias::No)?;
    for (index, part) in parts.iter().enumerate().skip(1) {
        let seen = ops.linear(&index.to_string(), part, Bias::No)?;
        sum = ops.add(&sum, &seen)?;
    }
    Ok(sum)
}
