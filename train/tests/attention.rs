//! Attention by LibTorch's kernels against softmax written out, values and gradients, for every kind of row.
#![allow(clippy::unwrap_used, missing_docs)]

use std::rc::Rc;

use seeward_models::net::Ops;
use seeward_train::libtorch::interpreter::{Torch, Value};
use seeward_train::libtorch::parameters::Parameters;
use seeward_train::libtorch::precision::Precision;
use seeward_train::random::Stream;
use tch::{Device, Kind, Tensor};

const HEADS: (usize, usize) = (4, 2);
const HEAD: i64 = 8;

fn drawn(name: &str, rows: i64, tokens: i64, heads: usize) -> Tensor {
    let shape = [rows, tokens, heads as i64 * HEAD];
    let stream = Stream::new(1, name, 0);
    stream.torch(|| Tensor::randn(shape, (Kind::Float, Device::Cpu)))
}

fn grid(rows: &[&[i32]]) -> Value {
    Value(Tensor::from_slice2(rows))
}

/// softmax(q·kᵀ/√head)·v, every key head for two query heads.
fn written_out(q: &Tensor, k: &Tensor, v: &Tensor, seen: &Tensor) -> Tensor {
    let heads = |x: &Tensor, heads: usize| {
        let (rows, tokens, _) = x.size3().unwrap();
        x.view([rows, tokens, heads as i64, HEAD]).transpose(1, 2)
    };
    let serve = |x: &Tensor| heads(x, HEADS.1).repeat_interleave_self_int(2, 1, None);
    let scores = heads(q, HEADS.0).matmul(&serve(k).transpose(2, 3)) / (HEAD as f64).sqrt();
    let scores = scores.masked_fill(&seen.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    let output = scores.softmax(-1, Kind::Float).matmul(&serve(v));
    output.transpose(1, 2).flatten(2, 3)
}

/// The rule: j ≤ i, one document, and j in the prefix or in i's own branch.
fn seen(documents: &[&[i32]], branches: &[&[i32]]) -> Tensor {
    let row = |(documents, branches): (&&[i32], &&[i32])| -> Vec<bool> {
        let tokens = documents.len();
        let attends = |i: usize, j: usize| {
            j <= i
                && documents[i] == documents[j]
                && (branches[j] == 0 || branches[j] == branches[i])
        };
        let pairs = (0..tokens * tokens).map(|at| attends(at / tokens, at % tokens));
        pairs.collect()
    };
    let rows: Vec<bool> = documents.iter().zip(branches).flat_map(row).collect();
    let tokens = documents[0].len() as i64;
    Tensor::from_slice(&rows).view([-1, tokens, tokens])
}

fn check(what: &str, documents: &[&[i32]], branches: &[&[i32]]) {
    let (rows, tokens) = (documents.len() as i64, documents[0].len() as i64);
    let input = |name, heads| drawn(name, rows, tokens, heads).set_requires_grad(true);
    let inputs = [
        input("q", HEADS.0),
        input("k", HEADS.1),
        input("v", HEADS.1),
    ];
    let weights = drawn("weights", rows, tokens, HEADS.0);
    let with_gradients = |output: Tensor| {
        let loss = (&output * &weights).sum(Kind::Float);
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        std::iter::once(output.detach())
            .chain(gradients)
            .collect::<Vec<_>>()
    };
    let mut ops = Torch::new(Rc::new(Parameters::new(Precision::Fp32)), Precision::Fp32);
    ops.expect(&documents.concat(), &branches.concat());
    let mask = ops.tree_mask(&grid(documents), &grid(branches)).unwrap();
    let [q, k, v] = inputs.each_ref().map(|x| Value(x.shallow_clone()));
    let got = with_gradients(ops.attention(&q, &k, &v, Some(&mask), HEADS).unwrap().0);
    let [q, k, v] = &inputs;
    let expected = with_gradients(written_out(q, k, v, &seen(documents, branches)));
    for (part, (got, expected)) in ["value", "q", "k", "v"]
        .iter()
        .zip(got.iter().zip(&expected))
    {
        // Values of about 1, sums of a dozen of them in fp32.
        let off = (got - expected).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{what}: {part} is off by {off:e}");
    }
}

#[test]
fn every_kind_of_row() {
    check(
        "lone conversations",
        &[&[0; 6][..]; 2],
        &[&[0, 0, 0, 0, 0, 1][..]; 2],
    );
    check("two branches", &[&[0; 7]], &[&[0, 0, 0, 1, 1, 2, 2]]);
    let (short, long) = (&[0, 0, 0, 1, 2, 3][..], &[0; 6][..]);
    check(
        "padding",
        &[short, long],
        &[&[0, 0, 1, 0, 0, 0], &[0, 0, 0, 0, 0, 1]],
    );
    check(
        "two documents",
        &[&[0, 0, 0, 1, 1, 1]],
        &[&[0, 1, 2, 0, 0, 1]],
    );
}
