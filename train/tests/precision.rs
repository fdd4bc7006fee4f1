//! Mixed precision, piece by piece: values that are rounded to bf16, and values that must not be.
#![allow(clippy::unwrap_used, missing_docs)]

use std::rc::Rc;

use seeward_models::checkpoint::{Checkpoint, write_tensors};
use seeward_models::net::{Bias, Ops};
use seeward_train::config::Config;
use seeward_train::libtorch::interpreter::{Torch, Value};
use seeward_train::libtorch::parameters::Parameters;
use seeward_train::libtorch::precision::{Precision, allow_tf32, tf32_is_allowed, without_tf32};
use seeward_train::step::optimizer::{AdamW, forget_gradients};
use tch::{Device, Kind, Tensor};

fn parameters(tensors: &[(&str, Tensor)], trains: impl Fn(&str) -> bool) -> Rc<Parameters> {
    let mut parameters = Parameters::new(Precision::Bf16);
    for (name, tensor) in tensors {
        parameters.insert((*name).to_owned(), tensor.shallow_clone());
    }
    parameters.train_where(trains);
    Rc::new(parameters)
}

fn bf16(parameters: &Rc<Parameters>) -> Torch {
    Torch::new(parameters.clone(), Precision::Bf16)
}

fn rounded(values: &[f32], shape: &[i64]) -> Value {
    Value(
        Tensor::from_slice(values)
            .view(shape)
            .to_kind(Kind::BFloat16),
    )
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).unwrap()
}

/// One backward pass in which the weight "w" (one element) gets the gradient `factor`.
fn backward(parameters: &Rc<Parameters>, factor: f32) {
    let seen = bf16(parameters).mul_parameter("w", &rounded(&[factor], &[1]));
    let Value(product) = seen.unwrap();
    assert_eq!(product.kind(), Kind::BFloat16);
    product.sum(Kind::Float).backward();
}

/// Between 1 and 2, bf16 values differ by 1/128, so that a single step of 1e-5 from 1 is lost; 600 such steps are not.
#[test]
fn updates_too_small_for_bf16_add_up_in_the_masters() {
    let (steps, rate) = (600, 1e-5);
    let parameters = parameters(&[("w", Tensor::from_slice(&[1f32]))], |_| true);
    let mut adam = AdamW::new(&Config::default());
    for _ in 0..steps {
        forget_gradients(&parameters);
        backward(&parameters, -1.0);
        adam.reduce(&parameters).unwrap();
        adam.step(&parameters, 1.0, |_| rate).unwrap();
    }
    let master = parameters.get("w").unwrap();
    assert_eq!(master.kind(), Kind::Float);
    // Adam's step under a constant gradient is the rate; fp32 loses up to 2^-24 of each.
    let moved = values(master)[0] - 1.0;
    assert!((moved - 6e-3).abs() < 600.0 * 6e-8, "{moved}");
    let Value(seen) = bf16(&parameters)
        .mul_parameter("w", &rounded(&[1.0], &[1]))
        .unwrap();
    assert_eq!(values(&seen), [1.0 + 1.0 / 128.0]);

    let mut without_master = Tensor::from_slice(&[1f32]).to_kind(Kind::BFloat16);
    for _ in 0..steps {
        without_master += rate;
    }
    assert_eq!(values(&without_master), [1.0]);
}

/// In bf16, 256 + 1 is 256.
#[test]
fn gradients_of_several_batches_and_their_norm_are_fp32() {
    let parameters = parameters(&[("w", Tensor::from_slice(&[1f32]))], |_| true);
    for factor in [256.0, 1.0] {
        backward(&parameters, factor);
    }
    let gradient = parameters.get("w").unwrap().grad();
    assert_eq!(gradient.kind(), Kind::Float);
    assert_eq!(values(&gradient), [257.0]);
    let squares = AdamW::new(&Config::default()).reduce(&parameters);
    assert_eq!(squares.unwrap().sqrt(), 257.0);
}

#[test]
fn gradients_of_a_repeated_token_add_up_in_fp32() {
    let table = Tensor::from_slice(&[0.5f32, 1.0 / 3.0]).view([2, 1]);
    let parameters = parameters(&[("table.weight", table)], |_| true);
    let ids = Value(Tensor::zeros([1, 301], (Kind::Int64, Device::Cpu)));
    let Value(rows) = bf16(&parameters).embedding("table", &ids).unwrap();
    assert_eq!(rows.kind(), Kind::BFloat16);
    rows.sum(Kind::Float).backward();
    let gradient = parameters.get("table.weight").unwrap().grad();
    assert_eq!(values(&gradient), [301.0, 0.0]);
}

#[test]
fn a_frozen_weight_is_kept_rounded_without_a_master() {
    let third = || Tensor::from_slice(&[1f32 / 3.0]);
    let parameters = parameters(&[("frozen", third()), ("w", third())], |name| name == "w");
    assert_eq!(parameters.get("frozen").unwrap().kind(), Kind::BFloat16);
    assert_eq!(parameters.get("w").unwrap().kind(), Kind::Float);
    let masters: Vec<_> = parameters.masters().into_iter().map(|m| m.name).collect();
    assert_eq!(masters, ["master.w"]);
}

#[test]
fn a_master_is_restored_to_its_own_weight_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let master = parameters(&[("w", Tensor::from_slice(&[1f32 / 3.0]))], |_| true);
    write_tensors(&path, master.masters()).unwrap();
    let state = Checkpoint::open_file(&path).unwrap();
    let resumed = |weight: Tensor| {
        let resumed = parameters(&[("w", weight)], |_| true);
        resumed
            .restore_masters(&state)
            .map(|()| values(resumed.get("w").unwrap()))
    };
    let saved = Tensor::from_slice(&[1f32 / 3.0])
        .to_kind(Kind::BFloat16)
        .to_kind(Kind::Float);
    assert_ne!(values(&saved), [1.0 / 3.0]);
    assert_eq!(resumed(saved).unwrap(), [1.0 / 3.0]);
    let message = resumed(Tensor::from_slice(&[0.25f32]))
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("w: the fp32 master"), "{message}");
}

/// bf16 cannot represent 1 + 1/1024, the head's output on bf16 weights.
#[test]
fn the_score_head_computes_in_fp32_on_rounded_weights() {
    let third = 1f32 / 3.0;
    let weight = Tensor::from_slice(&[1f32, 1.0 / 1024.0, third]).view([1, 3]);
    let parameters = parameters(&[("score.weight", weight)], |_| true);
    let score = |x: [f32; 3]| {
        let x = rounded(&x, &[1, 3]);
        let Value(score) = bf16(&parameters).linear("score", &x, Bias::No).unwrap();
        assert_eq!(score.kind(), Kind::Float);
        values(&score)[0]
    };
    assert_eq!(score([1.0, 1.0, 0.0]), 1.0 + 1.0 / 1024.0);
    assert_eq!(
        score([0.0, 0.0, 1.0]),
        values(&rounded(&[third], &[1]).0)[0]
    );
}

/// The scores 20 and 20.0625 are the same value in bf16, and would give 0.
#[test]
fn the_softmax_is_fp32() {
    let mut keys = [0f32; 32];
    (keys[0], keys[16], keys[17]) = (10.0, 10.0, 1.0);
    let mut queries = [0f32; 32];
    (queries[0], queries[1], queries[16], queries[17]) = (8.0, 0.25, 8.0, 0.25);
    let mut ends = [-1f32; 32];
    ends[..16].fill(1.0);
    let [q, k, v] = [queries, keys, ends].map(|x| rounded(&x, &[1, 2, 16]));
    let Value(mixed) = bf16(&parameters(&[], |_| true))
        .attention(&q, &k, &v, None, (1, 1))
        .unwrap();
    let expected = -(0.0625f32 / 2.0).tanh();
    // Probabilities near 1/2 may be rounded to bf16, by up to 2^-10, before they meet the values.
    for value in values(&mixed) {
        assert!(
            (value - expected).abs() <= 2.0 / 1024.0,
            "{value} {expected}"
        );
    }
}

/// Without the sum of squares in fp32, 300 ones would make 256.
#[test]
fn norms_are_fp32() {
    let parameters = parameters(
        &[(
            "norm.weight",
            Tensor::ones([300], (Kind::Float, Device::Cpu)),
        )],
        |_| true,
    );
    let x = rounded(&[1.0; 300], &[1, 1, 300]);
    let Value(y) = bf16(&parameters).rms_norm("norm", &x, 0.0).unwrap();
    assert_eq!(y.kind(), Kind::BFloat16);
    assert!(values(&y).iter().all(|&y| y == 1.0));
}

/// The flags are global: no other test of this file reads them.
#[test]
fn tf32_is_off_unless_asked_for_and_never_in_probes() {
    assert_eq!(allow_tf32(false, Device::Cpu), None);
    assert!(!tf32_is_allowed());
    let notice = allow_tf32(true, Device::Cpu).unwrap();
    assert_eq!(notice, "tf32: no effect: only CUDA devices support it");
    assert!(tf32_is_allowed());
    assert!(!without_tf32(tf32_is_allowed));
    assert!(tf32_is_allowed());
    assert_eq!(allow_tf32(true, Device::Cuda(0)), None);
    allow_tf32(false, Device::Cpu);
}
