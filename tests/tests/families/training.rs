//! Every family through the programs: trained in both algorithms, written back in the layout that it came in, exported,
//! and checked against the rewards that training measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::Config;
use seeward_models::net::TEXT_ONLY_SCOPE;
use seeward_tests::program::program;
use serde_json::{Value, json};

use crate::golden::{families, model, rows, template};

/// The keys of each run: everything trains; a twin, activations are computed again; additions over frozen parts.
fn runs(family: &str) -> [Value; 3] {
    [
        json!({}),
        json!({
            "algorithm": "shortcut_aware", "bias_model_path": model(family), "grad_checkpoint": true
        }),
        json!({
            "freeze_backbone": true, "freeze_mlp": true, "use_llm_lora": true, "lora_r": 2
        }),
    ]
}

#[test]
fn every_family_trains_and_returns_in_its_layout() {
    for family in &families() {
        for keys in runs(family) {
            let folder = tempfile::tempdir().unwrap();
            let written = train(family, &keys, folder.path());
            same_layout(&model(family), &written);
            checked(&written, &folder.path().join("main"), "main");
            if keys.get("algorithm").is_some() {
                checked(&written, &folder.path().join("twin"), "text_only");
            }
        }
    }
}

/// Two epochs over a frozen vision encoder: in the second all features come from the cache.
#[test]
fn cached_features_train_the_same_in_every_family() {
    let mut families = families();
    families.retain(|family| Config::open(&model(family)).unwrap().vision.is_some());
    assert!(!families.is_empty());
    for family in &families {
        let weights = [0, 1 << 30].map(|memory| {
            let folder = tempfile::tempdir().unwrap();
            let keys = json!({
                "freeze_backbone": true, "max_steps": 10, "vision_cache_memory": memory
            });
            let written = train(family, &keys, folder.path());
            fs::read(written.join("model.safetensors")).unwrap()
        });
        assert!(weights[0] == weights[1], "{family}");
    }
}

/// Trains two steps after a dry run. `keys` replace those of the family's golden model. Returns the checkpoint.
pub(crate) fn train(family: &str, keys: &Value, folder: &Path) -> PathBuf {
    let pairs: Vec<String> = rows(family)
        .iter()
        .map(|row| row.pair(0, 1).to_string())
        .collect();
    fs::write(folder.join("pairs.jsonl"), pairs.join("\n")).unwrap();
    let mut config = json!({
        "model_name_or_path": model(family), "dataset_path": folder.join("pairs.jsonl"),
        "output_dir": folder.join("run"), "conv_style": template(family).map(|t| t.name()),
        "max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 2, "learning_rate": 1e-3,
        "threads": 1,
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    let path = folder.join("config.yaml");
    fs::write(&path, config.to_string()).unwrap();
    let mut dry = program("seeward-train");
    succeeds(dry.arg("--config").arg(&path).arg("--dry-run"));
    succeeds(program("seeward-train").arg("--config").arg(&path));
    folder.join("run/checkpoint-last")
}

/// The tensors of the main branch, the class, and the files next to them.
pub(crate) fn same_layout(source: &Path, written: &Path) {
    let (before, mut after) = (shapes(source), shapes(written));
    after.retain(|name, _| !name.starts_with(TEXT_ONLY_SCOPE));
    let place = source.display();
    assert_eq!(after, before, "{place}");
    let config = |folder: &Path| -> Value {
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let (before, after) = (config(source), config(written));
    for key in ["model_type", "architectures"] {
        assert_eq!(after[key], before[key], "{place}: {key}");
    }
    for file in fs::read_dir(source).unwrap() {
        let name = file.unwrap().file_name();
        assert!(written.join(&name).is_file(), "{place}: {name:?}");
    }
}

fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let tensors = checkpoint.tensors();
    tensors
        .map(|(name, info)| (name.to_owned(), info.shape.clone()))
        .collect()
}

/// Exports a branch, whose rewards must be those that training measured.
pub(crate) fn checked(checkpoint: &Path, bundle: &Path, branch: &str) {
    let mut export = program("seeward-export");
    export.arg("--checkpoint").arg(checkpoint);
    succeeds(
        export
            .arg("--output")
            .arg(bundle)
            .args(["--branch", branch]),
    );
    succeeds(
        program("seeward-score")
            .args(["--check", "--model"])
            .arg(bundle),
    );
}

pub(crate) fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}
