//! Every family through the programs: trained in both algorithms, written back in the layout that it came in, exported,
//! and checked against the rewards that training measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::net::TEXT_ONLY_SCOPE;
use seeward_tests::program::program;
use serde_json::{Value, json};

use crate::FAMILIES;
use crate::golden::{model, rows, template};

/// The keys of each run: a twin, everything trains, activations are computed again; additions over frozen parts, whose
/// features are cached.
fn runs(family: &str) -> [Value; 2] {
    [
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
    for family in FAMILIES {
        for keys in runs(family) {
            let folder = tempfile::tempdir().unwrap();
            train(family, &keys, folder.path());
            let written = folder.path().join("run/checkpoint-last");
            same_layout(family, &written);
            checked(&written, &folder.path().join("main"), "main");
            if keys.get("algorithm").is_some() {
                checked(&written, &folder.path().join("twin"), "text_only");
            }
        }
    }
}

fn train(family: &str, keys: &Value, folder: &Path) {
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
}

/// The tensors of the main branch, the class, and the files next to them.
fn same_layout(family: &str, written: &Path) {
    let (before, mut after) = (shapes(&model(family)), shapes(written));
    after.retain(|name, _| !name.starts_with(TEXT_ONLY_SCOPE));
    assert_eq!(after, before, "{family}");
    let config = |folder: &Path| -> Value {
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let (before, after) = (config(&model(family)), config(written));
    for key in ["model_type", "architectures"] {
        assert_eq!(after[key], before[key], "{family}: {key}");
    }
    for file in fs::read_dir(model(family)).unwrap() {
        let name = file.unwrap().file_name();
        assert!(written.join(&name).is_file(), "{family}: {name:?}");
    }
}

fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let tensors = checkpoint.tensors();
    tensors
        .map(|(name, info)| (name.to_owned(), info.shape.clone()))
        .collect()
}

fn checked(checkpoint: &Path, bundle: &Path, branch: &str) {
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

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}
