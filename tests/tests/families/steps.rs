//! Six optimizer steps of whole images' families through the program, compared with transformers and PyTorch's AdamW.
//!
//! Tolerance: 1e-4 of the losses, as of rewards, and 2e-4 relative of the norms of gradients and weights.

use std::fs;
use std::path::Path;

use seeward_models::config::Config;
use seeward_models::net;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, number};
use serde_json::{Value, json};

use crate::TOLERANCE;
use crate::golden::{model, rows};
use crate::training::train;

const FAMILIES: [&str; 3] = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"];
const NORM: Tolerance = Tolerance {
    absolute: 1e-6,
    relative: 2e-4,
};

#[test]
fn six_steps_are_those_of_transformers() {
    for family in FAMILIES {
        let golden = golden::json(&format!("families/{family}/training.json"));
        for algorithm in ["standard", "shortcut_aware"] {
            let folder = tempfile::tempdir().unwrap();
            let keys = keys(family, algorithm, &golden, folder.path());
            let written = train(family, &keys, folder.path());
            let (what, golden) = (format!("{family}, {algorithm}"), &golden[algorithm]);
            losses(&what, &golden["steps"], &folder.path().join("run"));
            weights(&what, &golden["param_norms_after"], &written);
        }
    }
}

/// The settings of the golden run over its rows, which are written to `folder`.
fn keys(family: &str, algorithm: &str, golden: &Value, folder: &Path) -> Value {
    let all = rows(family);
    let numbers: Vec<usize> = serde_json::from_value(golden["rows"].clone()).unwrap();
    let pairs: Vec<String> = numbers
        .iter()
        .map(|&number| all[number].pair(0, 1).to_string())
        .collect();
    let path = folder.join("golden.jsonl");
    fs::write(&path, pairs.join("\n")).unwrap();
    let mut keys = golden["settings"].clone();
    keys["algorithm"] = json!(algorithm);
    keys["bias_model_path"] = match algorithm {
        "standard" => Value::Null,
        _ => json!(model(family)),
    };
    keys["dataset_path"] = json!(path);
    keys["per_device_train_batch_size"] = golden["batch"].clone();
    keys["max_steps"] = json!(golden[algorithm]["steps"].as_array().unwrap().len());
    keys["shuffle"] = json!(false);
    keys["logging_steps"] = json!(1);
    keys
}

fn losses(what: &str, golden: &Value, run: &Path) {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let golden = golden.as_array().unwrap();
    assert_eq!(records.len(), golden.len(), "{what}");
    for (got, expected) in records.iter().zip(golden) {
        let what = format!("{what}, step {}", got["step"]);
        let [loss, norm] =
            ["loss", "grad_norm"].map(|key| (number(&got[key]), number(&expected[key])));
        assert_close(
            &format!("{what}: loss"),
            &[loss.0],
            &[loss.1],
            Tolerance::reward(TOLERANCE, loss.1),
        );
        assert_close(&format!("{what}: gradients"), &[norm.0], &[norm.1], NORM);
    }
}

/// The norm of every tensor, and no tensor besides.
fn weights(what: &str, golden: &Value, written: &Path) {
    let config = Config::open(written).unwrap();
    let (checkpoint, _) = net::open(written, &config).unwrap();
    let golden = golden.as_object().unwrap();
    let mut names: Vec<&str> = checkpoint.names().collect();
    names.sort_unstable();
    let expected: Vec<&str> = golden.keys().map(String::as_str).collect();
    assert_eq!(names, expected, "{what}");
    for (name, expected) in golden {
        let values = checkpoint.read_f32(name).unwrap();
        let squares = values.iter().map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        assert_close(
            &format!("{what}: {name}"),
            &[norm],
            &[number(expected)],
            NORM,
        );
    }
}
