//! Score heads of every kind over the weights of one family.

use std::fs;
use std::path::Path;

use seeward_models::checkpoint::{Checkpoint, TensorData, VALUE_HEAD_FILE, WEIGHTS_FILE};
use seeward_models::checkpoint::{is_value_head, write_tensors};
use seeward_models::config::{Config, HeadChoices};
use seeward_models::kinds::{HeadActivation, InputMode, Precision, Target};
use seeward_models::net::{self, SCORE_HEAD};
use seeward_models::reading::RewardAt;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, numbers, path};
use serde_json::{Value, json};

use crate::TOLERANCE;
use crate::engines::{Folder, LibTorch, Onnx};
use crate::golden::{model, rows, template};
use crate::training::{checked, same_layout, train};

const FAMILY: &str = "qwen2_text";

/// The golden heads: name, module of `heads.safetensors` in the place of `score.weight`, and what no file says.
fn heads() -> Vec<(&'static str, Option<&'static str>, HeadChoices)> {
    let activation = |activation| HeadChoices {
        activation: Some(activation),
        ..HeadChoices::default()
    };
    let at = |name| HeadChoices {
        at: Some(RewardAt::named(name)),
        ..HeadChoices::default()
    };
    let output = HeadChoices {
        output: Some(1),
        ..HeadChoices::default()
    };
    vec![
        ("output 1 of 3", Some("outputs"), output),
        ("value head", Some("value"), HeadChoices::default()),
        (
            "layers with relu",
            Some("layers"),
            activation(HeadActivation::Relu),
        ),
        (
            "layers with silu",
            Some("layers"),
            activation(HeadActivation::Silu),
        ),
        (
            "layers with gelu",
            Some("layers"),
            activation(HeadActivation::Gelu),
        ),
        (
            "layers with tanh",
            Some("layers"),
            activation(HeadActivation::Tanh),
        ),
        ("at <|im_start|>", None, at("<|im_start|>")),
        ("at <|im_end|>", None, at("<|im_end|>")),
        ("mean", None, at("mean")),
    ]
}

/// A copy of the family's checkpoint with this head.
fn folder(module: Option<&str>, into: &Path) {
    for file in fs::read_dir(model(FAMILY)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), into.join(file.file_name())).unwrap();
    }
    let Some(module) = module else { return };
    let (base, heads) = (
        Checkpoint::open(&model(FAMILY)).unwrap(),
        Checkpoint::open_file(&path("families/qwen2_text/heads.safetensors")).unwrap(),
    );
    let values = |from: &Checkpoint, name: &str| {
        let shape = from.info(name).unwrap().shape.clone();
        (shape, from.read_f32(name).unwrap())
    };
    let body = base.tensors().filter(|(name, _)| *name != SCORE_HEAD);
    let body = body.map(|(name, _)| (name.to_owned(), values(&base, name)));
    let head = heads.tensors().filter_map(|(name, _)| {
        let local = name.strip_prefix(module)?.strip_prefix('.')?;
        Some((local.to_owned(), values(&heads, name)))
    });
    let all: Vec<_> = body.chain(head).collect();
    for (file, of_value_head) in [(WEIGHTS_FILE, false), (VALUE_HEAD_FILE, true)] {
        let own = all
            .iter()
            .filter(|(name, _)| is_value_head(name) == of_value_head);
        let own = own.map(|(name, (shape, values))| TensorData::f32(name, shape, values));
        let own: Vec<_> = own.collect();
        if !own.is_empty() {
            write_tensors(&into.join(file), own).unwrap();
        }
    }
}

#[test]
fn every_head_gives_the_golden_rewards() {
    let golden = golden::json("families/qwen2_text/golden.json");
    for (name, module, head) in heads() {
        let copy = tempfile::tempdir().unwrap();
        folder(module, copy.path());
        let folder = Folder {
            path: copy.path().to_owned(),
            template: template(FAMILY),
            head,
        };
        let expected = &golden["heads"][name];
        for shared in [true, false] {
            let torch = LibTorch::of(&folder, InputMode::Full, shared);
            check(name, expected, TOLERANCE, |row| torch.rewards(row));
        }
        for (target, precision) in [
            (Target::Portable, Precision::Fp32),
            (Target::Cpu, Precision::Fp32),
            (Target::Cpu, Precision::Int8),
        ] {
            let onnx = Onnx::of(&folder, target, precision);
            let loaded = onnx.load(InputMode::Full);
            check(name, expected, onnx.tolerance(), |row| {
                let all: Vec<usize> = (0..row.responses.len()).collect();
                loaded.score(row, &all)
            });
        }
    }
}

fn check(
    name: &str,
    expected: &Value,
    scale: f64,
    rewards: impl Fn(&crate::golden::Row) -> Vec<f64>,
) {
    let expected = expected.as_array().expect("rows");
    for (row, expected) in rows(FAMILY).iter().zip(expected) {
        for (got, expected) in rewards(row).iter().zip(numbers(expected)) {
            let tolerance = Tolerance::reward(scale, expected);
            assert_close(
                &format!("{name}: {:?}", row.prompt),
                &[*got],
                &[expected],
                tolerance,
            );
        }
    }
}

/// Heads of every layout, and the keys that training needs for them.
#[test]
fn every_head_trains_and_returns_in_its_layout() {
    for (module, keys) in [
        ("outputs", json!({"head_output": 1})),
        ("value", json!({})),
        ("layers", json!({"head_activation": "silu"})),
    ] {
        let (copy, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        folder(Some(module), copy.path());
        let mut keys = keys;
        keys["model_name_or_path"] = json!(copy.path());
        let written = train(FAMILY, &keys, run.path());
        same_layout(copy.path(), &written);
        trains_its_head(copy.path(), &written);
        checked(&written, &run.path().join("bundle"), "main");
    }
}

/// Every layer of the head has other values after training.
fn trains_its_head(before: &Path, after: &Path) {
    let [before, after] = [before, after].map(|folder| Checkpoint::open(folder).unwrap());
    let of_head = |name: &&str| name.starts_with("score.") || is_value_head(name);
    let names: Vec<&str> = before
        .tensors()
        .map(|(name, _)| name)
        .filter(of_head)
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let [before, after] = [&before, &after].map(|weights| weights.read_f32(name).unwrap());
        // A bias of the last layer is the same for both sides of a pair.
        let is_free = name != "v_head.summary.bias";
        assert_eq!(before != after, is_free, "{name}");
    }
}

#[test]
fn what_no_file_says_must_be_said() {
    for (module, expected) in [
        (
            Some("outputs"),
            "3 outputs, and no file says which is the reward",
        ),
        (
            Some("layers"),
            "several layers, and no file says the activation",
        ),
    ] {
        let copy = tempfile::tempdir().unwrap();
        folder(module, copy.path());
        let config = Config::open(copy.path()).unwrap();
        let (weights, _) = net::open(copy.path(), &config).unwrap();
        let message = net::branches(&weights, &config).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
