//! The names of tensors: those of a model in memory, and those of adapters.

use std::fs;
use std::path::Path;

use seeward_models::checkpoint::{Checkpoint, TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::config::HeadChoices;
use seeward_models::kinds::{InputMode, Precision, Target};
use serde_json::json;

use crate::TOLERANCE;
use crate::engines::{Folder, LibTorch, Onnx};
use crate::golden::{model, rows_of, template};
use crate::training::{same_layout, succeeds, train};

const HF: &str = "internvl3_5_hf";

/// A copy of the golden InternVL of transformers whose tensors are named as in memory.
fn in_model(into: &Path) {
    for file in fs::read_dir(model(HF)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), into.join(file.file_name())).unwrap();
    }
    let golden = Checkpoint::open(&model(HF)).unwrap();
    let named = |name: &str| match name.strip_prefix("language_model.model.") {
        Some(local) => format!("model.language_model.{local}"),
        None if name.starts_with("language_model.") => name.replace("language_model.", ""),
        None if name.starts_with("score.") => name.to_owned(),
        None => format!("model.{name}"),
    };
    let read = |(name, _)| (named(name), name, golden.read_f32(name).unwrap());
    let tensors: Vec<_> = golden.tensors().map(read).collect();
    let tensors = tensors.iter().map(|(renamed, name, values)| {
        let shape = &golden.info(name).unwrap().shape;
        TensorData::f32(renamed, shape, values)
    });
    write_tensors(&into.join(WEIGHTS_FILE), tensors.collect()).unwrap();
}

#[test]
fn tensors_may_be_named_as_in_memory() {
    let (copy, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    in_model(copy.path());
    let folder = Folder {
        path: copy.path().to_owned(),
        template: template(HF),
        head: HeadChoices::default(),
    };
    let torch = LibTorch::of(&folder, InputMode::Full, true);
    let onnx = Onnx::of(&folder, Target::Portable, Precision::Fp32);
    let loaded = onnx.load(InputMode::Full);
    for row in &rows_of(HF, InputMode::Full) {
        let all: Vec<usize> = (0..row.responses.len()).collect();
        row.check("in memory", InputMode::Full, &torch.rewards(row), TOLERANCE);
        row.check(
            "in memory",
            InputMode::Full,
            &loaded.score(row, &all),
            TOLERANCE,
        );
    }
    let keys = json!({"model_name_or_path": copy.path()});
    same_layout(copy.path(), &train(HF, &keys, run.path()));
}

/// A layer of each part as the adapter names it, and that layer in the checkpoint.
const ADAPTED: [(&str, &[&str]); 2] = [
    ("qwen3_text", &["model.layers.1.self_attn.q_proj"]),
    (
        HF,
        &[
            "language_model.model.layers.1.mlp.up_proj",
            "vision_tower.encoder.layer.1.attention.q_proj",
            "vision_tower.encoder.layer.1.attention.v_proj",
            "vision_tower.encoder.layer.0.mlp.fc2",
        ],
    ),
];

#[test]
fn adapters_have_the_names_of_the_layout() {
    for (family, layers) in ADAPTED {
        let folder = tempfile::tempdir().unwrap();
        let keys = json!({
            "use_llm_lora": true, "use_backbone_lora": true, "lora_r": 2, "lora_alpha": 6, "save_steps": 1,
            "max_steps": 3
        });
        let written = train(family, &keys, folder.path());
        let adapter = written.join("adapter/adapter_model.safetensors");
        let weights = [model(family), written.clone()].map(|f| Checkpoint::open(&f).unwrap());
        let additions = Checkpoint::open_file(&adapter).unwrap();
        for layer in layers {
            is_merged(&weights, &additions, layer);
        }
        targets_its_layers(&written.join("adapter"), &additions);
        resumes(&folder.path().join("config.yaml"), &written);
    }
}

/// The written weight is the one before training and the scaled product of the addition.
fn is_merged([before, after]: &[Checkpoint; 2], additions: &Checkpoint, layer: &str) {
    let weight = format!("{layer}.weight");
    let tensor = |end: &str| additions.read_f32(&format!("base_model.model.{layer}.{end}.weight"));
    let (a, b) = (tensor("lora_A").unwrap(), tensor("lora_B").unwrap());
    let [before, after] = [before, after].map(|weights| weights.read_f32(&weight).unwrap());
    let inputs = a.len() / 2;
    assert!(b.iter().any(|&value| value != 0.0), "{layer}");
    for (place, (before, after)) in before.iter().zip(&after).enumerate() {
        let (row, column) = (place / inputs, place % inputs);
        let added: f32 = (0..2)
            .map(|i| b[row * 2 + i] * a[i * inputs + column])
            .sum();
        assert!(
            (before + 3.0 * added - after).abs() < 5e-7,
            "{layer}: {place}"
        );
    }
}

/// PEFT adds to every layer whose name ends as one of the targets: these are the layers of the file, and no others.
fn targets_its_layers(adapter: &Path, additions: &Checkpoint) {
    let text = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let targets = config["target_modules"].as_array().unwrap();
    let mut unused: Vec<&str> = targets.iter().map(|t| t.as_str().unwrap()).collect();
    let layers = additions
        .tensors()
        .filter_map(|(name, _)| name.strip_suffix(".lora_A.weight"));
    for layer in layers {
        let targeted = targets
            .iter()
            .any(|t| layer.ends_with(&format!(".{}", t.as_str().unwrap())));
        assert!(targeted, "{layer}");
        unused.retain(|target| !layer.ends_with(&format!(".{target}")));
    }
    assert_eq!(unused, [""; 0]);
}

/// A run that lost its last checkpoint writes the same again.
fn resumes(config: &Path, last: &Path) {
    let files = ["model.safetensors", "adapter/adapter_model.safetensors"];
    let read = || files.map(|file| fs::read(last.join(file)).unwrap());
    let whole = read();
    fs::remove_dir_all(last).unwrap();
    succeeds(
        seeward_tests::program::program("seeward-train")
            .arg("--config")
            .arg(config),
    );
    assert!(read() == whole, "{}", last.display());
}
