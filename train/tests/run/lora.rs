//! LoRA runs: their checkpoints, and resuming.

use std::fs;
use std::path::Path;

use seeward_models::checkpoint::{Checkpoint, TensorData, write_tensors};
use serde_json::{Value, json};

use crate::support::{Run, golden, message, shortcut_aware, weights};

const KEYS: &str = "use_llm_lora: true\nuse_backbone_lora: true\nlora_r: 2\nlora_alpha: 6\nlora_dropout: 0.1\n\
                    drop_path_rate: 0.3\nmax_steps: 5\nsave_steps: 2\nwarmup_steps: 1\n";
const LAYER: &str = "language_model.model.layers.1.mlp.down_proj";

/// Row-major [rows, inner] times [inner, columns].
fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f32> {
    let (rows, columns) = (a.len() / inner, b.len() / inner);
    let at = |row: usize, column: usize| {
        (0..inner)
            .map(|i| a[row * inner + i] * b[i * columns + column])
            .sum()
    };
    let place = |flat: usize| at(flat / columns, flat % columns);
    (0..rows * columns).map(place).collect()
}

#[test]
fn a_checkpoint_holds_the_merged_weights_and_an_adapter_for_peft() {
    let run = shortcut_aware(KEYS).succeed();
    let (before, after) = (weights(&golden("models/qwen2")), weights(&run.last()));
    for (folder, prefix) in [("adapter", ""), ("adapter_text_only", "bias_reward_model.")] {
        let folder = run.last().join(folder);
        let file = Checkpoint::open_file(&folder.join("adapter_model.safetensors")).unwrap();
        let tensor = |name: &str| file.read_f32(&format!("base_model.model.{name}")).unwrap();
        let (a, b) = (
            tensor(&format!("{LAYER}.lora_A.weight")),
            tensor(&format!("{LAYER}.lora_B.weight")),
        );
        let delta = product(&b, &a, 2);
        assert!(delta.iter().any(|&x| x != 0.0));
        let weight = format!("{LAYER}.weight");
        let expected = before[&weight].iter().zip(delta).map(|(w, x)| w + 3.0 * x);
        for (expected, got) in expected.zip(&after[&format!("{prefix}{weight}")]) {
            // Three roundings of values below 1.
            assert!((expected - got).abs() < 5e-7, "{expected} {got}");
        }
        assert_eq!(
            tensor("score.weight"),
            after[&format!("{prefix}score.weight")]
        );
        is_what_peft_reads(&folder);
    }
    // Tensors without LoRA that do not train stay unchanged.
    for name in [
        "language_model.model.norm.weight",
        "language_model.model.embed_tokens.weight",
        "vision_model.encoder.layers.0.ls1",
    ] {
        assert_eq!(before[name], after[name], "{name}");
    }
}

fn is_what_peft_reads(folder: &Path) {
    let text = fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "peft_type": "LORA", "task_type": null, "r": 2, "lora_alpha": 6.0, "lora_dropout": 0.1,
        "base_model_name_or_path": golden("models/qwen2"),
        "target_modules": [
            "attn.proj", "attn.qkv", "mlp.down_proj", "mlp.fc1", "mlp.fc2", "mlp.gate_proj", "mlp.up_proj",
            "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj",
        ],
        "modules_to_save": ["mlp1", "score"],
        "bias": "none", "fan_in_fan_out": false, "init_lora_weights": true, "inference_mode": true,
    });
    assert_eq!(config, expected);
}

#[test]
fn a_lora_run_resumes_bit_for_bit() {
    for other in [
        "bf16: false",
        "bf16: true",
        "text_branch_vision: false\ntext_branch_layers: 1",
    ] {
        let run = shortcut_aware(&format!("{KEYS}text_branch_warmup_steps: 1\n{other}")).succeed();
        let files = [
            "model.safetensors",
            "adapter/adapter_model.safetensors",
            "optimizer.safetensors",
        ];
        let read = |run: &Run| files.map(|file| fs::read(run.last().join(file)).unwrap());
        let (whole, losses) = (read(&run), run.series("loss"));
        fs::remove_dir_all(run.last()).unwrap();
        let run = run.succeed();
        assert!(read(&run) == whole, "{other}");
        assert_eq!(run.series("loss"), losses);
    }
}

#[test]
fn a_lora_run_does_not_resume_with_another_base() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("models/qwen2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let run = Run::new(&format!(
        "{KEYS}model_name_or_path: {}",
        folder.path().display()
    ))
    .succeed();
    fs::remove_dir_all(run.last()).unwrap();
    let mut tensors = weights(folder.path());
    tensors.get_mut(&format!("{LAYER}.weight")).unwrap()[0] += 0.01;
    rewrite(folder.path(), &tensors);
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains(LAYER) && stderr.contains("the base has changed"),
        "{stderr}"
    );
    fs::remove_dir_all(folder.path()).unwrap();
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains(&folder.path().display().to_string()),
        "{stderr}"
    );
}

/// Replaces the values of a checkpoint's tensors.
fn rewrite(folder: &Path, tensors: &std::collections::BTreeMap<String, Vec<f32>>) {
    let shapes = Checkpoint::open(folder).unwrap();
    let tensor = |(name, values)| {
        let name: &String = name;
        let values: &Vec<f32> = values;
        TensorData::f32(name.clone(), &shapes.info(name).unwrap().shape, values)
    };
    let path = folder.join("changed");
    write_tensors(&path, tensors.iter().map(tensor).collect()).unwrap();
    fs::rename(path, folder.join("model.safetensors")).unwrap();
}

#[test]
fn the_rank_is_a_separate_key() {
    let stderr = message(&Run::new("use_llm_lora: 16").train(&[]));
    assert!(
        stderr.contains("use_llm_lora: expected true or false, got 16"),
        "{stderr}"
    );
}
