//! A YAML file of the published code, unchanged.

use std::fs;

use crate::support::{golden, message};

/// The published settings and launch options, at the size of a golden model.
const YAML: &str = "
model_name_or_path: MODEL
bias_model_path: MODEL
dataset_path: ROWS
output_dir: OUTPUT
overwrite_output_dir: False
conv_style: Hermes-2
max_length: 4096
force_image_size: 56
down_sample_ratio: 0.5
drop_path_rate: 0.1
freeze_llm: False
freeze_mlp: False
freeze_backbone: True
use_backbone_lora: False
use_llm_lora: False
unfreeze_vit_layers: 0
unfreeze_lm_head: False
vision_select_layer: -1
dynamic_image_size: True
use_thumbnail: True
min_dynamic_patch: 1
max_dynamic_patch: 6
pad2square: False
ps_version: v2
normalize_type: imagenet
use_text_only: False
use_image_only: False
grad_checkpoint: True
gradient_checkpointing: True
dataloader_num_workers: 4
remove_unused_columns: False
bf16: True
tf32: False
num_train_epochs: 1
max_steps: 2
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
eval_strategy: 'no'
save_strategy: steps
save_steps: 100
save_total_limit: 10
learning_rate: 1e-5
adam_beta1: 0.9
adam_beta2: 0.98
weight_decay: 0.05
max_grad_norm: 1.0
warmup_ratio: 0.1
lr_scheduler_type: cosine
logging_steps: 10
logging_first_step: True
do_train: True
deepspeed: configs/zero_stage3.json
ddp_timeout: 9000
resume_from_checkpoint: null
save_only_model: True
data_seed: 7
dataloader_drop_last: True
report_to: tensorboard
seed: 42
";

#[test]
fn a_published_yaml_trains_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let yaml = YAML
        .replace("MODEL", &golden("models/qwen2").display().to_string())
        .replace(
            "ROWS",
            &golden("train/pairwise.jsonl").display().to_string(),
        )
        .replace("OUTPUT", &at("out"));
    fs::write(folder.path().join("published.yaml"), yaml).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_seeward-train"));
    let output = program
        .args(["--config", &at("published.yaml")])
        .output()
        .unwrap();
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(
        folder
            .path()
            .join("out/checkpoint-last/model.safetensors")
            .exists()
    );
    // One notice for all ignored keys.
    let notice = "keys of other frameworks, not used: dataloader_num_workers, do_train, \
                  gradient_checkpointing, remove_unused_columns";
    assert!(
        stderr.contains(notice) && stderr.contains("deepspeed: not used: "),
        "{stderr}"
    );
}
