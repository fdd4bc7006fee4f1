//! Low-rank additions: their layers, names, initial values and results.

use std::collections::BTreeSet;
use std::rc::Rc;

use seeward_models::config::Config as ModelConfig;
use seeward_models::net::{Bias, Branch, Ops};
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden;
use seeward_train::config::{Algorithm, Config};
use seeward_train::libtorch::forward_context::ForwardContext;
use seeward_train::libtorch::interpreter::{Torch, Value};
use seeward_train::libtorch::lora;
use seeward_train::libtorch::parameters::Parameters;
use seeward_train::libtorch::precision::Precision;
use seeward_train::model::setup::Start;
use tch::{Device, Kind, Tensor};

/// The layers that the published code adapts.
const VISION: [&str; 4] = ["attn.proj", "attn.qkv", "mlp.fc1", "mlp.fc2"];
const SEPARATE: [&str; 7] = [
    "mlp.down_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "self_attn.k_proj",
    "self_attn.o_proj",
    "self_attn.q_proj",
    "self_attn.v_proj",
];
const INTERNLM2: [&str; 5] = [
    "attention.wo",
    "attention.wqkv",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
];
const PHI3: [&str; 4] = [
    "mlp.down_proj",
    "mlp.gate_up_proj",
    "self_attn.o_proj",
    "self_attn.qkv_proj",
];

fn adapted() -> Config {
    Config {
        use_backbone_lora: true,
        use_llm_lora: true,
        lora_r: 4,
        lora_alpha: 8.0,
        ..Config::default()
    }
}

#[test]
fn the_layers_are_the_published_ones_in_every_family() {
    let families: [(&str, &[&str]); 5] = [
        ("qwen2", &SEPARATE),
        ("llama", &SEPARATE),
        ("internlm2", &INTERNLM2),
        ("phi3", &PHI3),
        ("vit6b", &INTERNLM2),
    ];
    for (name, text) in families {
        let folder = golden::path(&format!("models/{name}"));
        let model = ModelConfig::open(&folder).expect("golden model");
        let layers = lora::layers(&adapted(), &model);
        let depth = model.vision.as_ref().expect("a vision encoder").layers();
        for (part, depth, expected) in [
            ("vision_model.encoder", depth, &VISION[..]),
            ("language_model.model", model.text.layers, text),
        ] {
            let names = |layer: usize| -> BTreeSet<&str> {
                let start = format!("{part}.layers.{layer}.");
                let own = layers.iter().filter_map(|l| l.name.strip_prefix(&start));
                own.collect()
            };
            for layer in 0..depth {
                assert!(
                    names(layer).iter().eq(expected),
                    "{name}: {:?}",
                    names(layer)
                );
            }
        }
        let expected = depth * VISION.len() + model.text.layers * text.len();
        assert_eq!(layers.len(), expected, "{name}");
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).expect("numbers")
}

/// A layer of 3 inputs and 2 outputs with an addition of rank 1 and scale ½.
fn layer() -> Rc<Parameters> {
    let mut parameters = lora::adapted(Parameters::new(Precision::Fp32), 0.5);
    for (name, shape, values) in [
        ("l.weight", [2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0][..]),
        ("l.lora_A.weight", [1, 3], &[1.0, 0.0, -1.0]),
        ("l.lora_B.weight", [2, 1], &[2.0, 6.0]),
    ] {
        let tensor = Tensor::from_slice(values).view(shape);
        parameters.insert(name.to_owned(), tensor);
    }
    parameters.train_where(|name| name != "l.weight");
    Rc::new(parameters)
}

#[test]
fn an_adapted_layer_adds_its_scaled_product() {
    let x = Value(Tensor::from_slice(&[1.0f32, 1.0, 2.0]).view([1, 1, 3]));
    // x·Wᵀ = [9, 21]; x·Aᵀ = −1; half of it times B is [−1, −3].
    for mut ops in [
        Torch::new(layer(), Precision::Fp32),
        Torch::new(layer(), Precision::Fp32).merged(),
    ] {
        let y = ops.linear("l", &x, Bias::No).expect("runs").0;
        assert_eq!(values(&y), [8.0, 18.0]);
    }
}

#[test]
fn dropout_applies_to_the_inputs_of_additions_only_and_depends_on_the_step() {
    let width = 1000;
    let mut parameters = Parameters::new(Precision::Fp32);
    for (name, tensor) in [
        (
            "l.weight",
            Tensor::zeros([width, width], (Kind::Float, Device::Cpu)),
        ),
        (
            "l.lora_A.weight",
            Tensor::eye(width, (Kind::Float, Device::Cpu)),
        ),
        (
            "l.lora_B.weight",
            Tensor::eye(width, (Kind::Float, Device::Cpu)),
        ),
    ] {
        parameters.insert(name.to_owned(), tensor);
    }
    let parameters = Rc::new(parameters);
    let config = Config {
        lora_dropout: 0.2,
        ..Config::default()
    };
    let x = Value(Tensor::ones([1, 1, width], (Kind::Float, Device::Cpu)));
    let of = |pass: Option<ForwardContext>| {
        let pass = pass.map(Rc::new);
        let mut ops = Torch::new(parameters.clone(), Precision::Fp32).with_pass(pass.as_ref());
        values(&ops.linear("l", &x, Bias::No).expect("runs").0)
    };
    let at = |step, batch| of(Some(ForwardContext::new(&config, step, batch)));
    assert!(of(None).iter().all(|&value| value == 1.0));
    let first = at(0, 0);
    assert!(first.iter().all(|&value| value == 0.0 || value == 1.25));
    // 200 of 1000 with a deviation of 12.6.
    let dropped = first.iter().filter(|&&value| value == 0.0).count();
    assert!(dropped.abs_diff(200) < 64, "{dropped}");
    assert_eq!(at(0, 0), first);
    assert!(at(1, 0) != first && at(0, 1) != first);
}

#[test]
fn a_run_starts_as_the_frozen_model_and_trains_additions_projector_and_head() {
    tch::set_num_threads(1);
    let folder = golden::path("models/qwen2").display().to_string();
    let config = Config {
        model_name_or_path: folder.clone(),
        bias_model_path: Some(folder),
        algorithm: Algorithm::ShortcutAware,
        ..adapted()
    };
    let start = Start::load(&config, None, Device::Cpu).expect("golden model");
    let trained: Vec<_> = start.parameters.trainable().map(|(name, _)| name).collect();
    let whole = trained.iter().filter(|name| !lora::is_addition(name));
    let whole: BTreeSet<_> = whole
        .map(|name| name.trim_start_matches(&Branch::TextOnly.prefix()))
        .filter_map(|name| name.split('.').next())
        .collect();
    assert!(whole.iter().eq(&["mlp1", "score"]), "{whole:?}");
    let additions = trained
        .iter()
        .filter(|name| lora::is_addition(name))
        .count();
    let layers = lora::layers(&config, &start.models.main.config).len();
    // A and B, of both branches.
    assert_eq!(additions, 4 * layers);
    for (name, tensor) in start
        .parameters
        .trainable()
        .filter(|(n, _)| lora::is_addition(n))
    {
        let largest = tensor.abs().max().double_value(&[]);
        if name.ends_with(lora::B) {
            assert_eq!(largest, 0.0, "{name}");
        } else {
            // Uniform in ±1/√in: of 128 and more draws the largest is above 0.8 of the bound.
            let bound = 1.0 / (tensor.size()[1] as f64).sqrt();
            assert!(
                largest <= bound && largest > 0.8 * bound,
                "{name}: {largest} {bound}"
            );
        }
    }
    let name =
        |layer: &str| format!("language_model.model.layers.0.self_attn.{layer}.lora_A.weight");
    let drawn = |layer| values(start.parameters.get(&name(layer)).expect("drawn"));
    assert_ne!(drawn("q_proj"), drawn("o_proj"));
}

/// By the chain rule, one step's gradients of A and B follow from the merged weight's gradient G: s·Bᵀ·G and s·G·Aᵀ.
#[test]
fn gradients_follow_from_those_of_the_merged_weight() {
    let close = Tolerance {
        absolute: 1e-6,
        relative: 1e-5,
    };
    let parameters = layer();
    let x = Tensor::from_slice(&[1.0f32, 1.0, 2.0, 0.5, -1.0, 3.0]).view([1, 2, 3]);
    let y = Torch::new(parameters.clone(), Precision::Fp32)
        .linear("l", &Value(x.shallow_clone()), Bias::No)
        .expect("runs");
    y.0.square().sum(Kind::Float).backward();
    let of_merged = 2.0
        * y.0
            .detach()
            .view([2, 2])
            .transpose(0, 1)
            .matmul(&x.view([2, 3]));
    let tensor = |name: &str| parameters.get(name).expect("there").detach();
    let gradient = |name: &str| values(&parameters.get(name).expect("there").grad());
    let (a, b) = (tensor("l.lora_A.weight"), tensor("l.lora_B.weight"));
    let expected = values(&(b.transpose(0, 1).matmul(&of_merged) * 0.5));
    assert_close("A", &gradient("l.lora_A.weight"), &expected, close);
    let expected = values(&(of_merged.matmul(&a.transpose(0, 1)) * 0.5));
    assert_close("B", &gradient("l.lora_B.weight"), &expected, close);
}
