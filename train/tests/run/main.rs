//! Training through the binary: its output, resuming, and errors.
#![allow(clippy::unwrap_used, missing_docs)]

mod activations;
mod best;
mod damage;
mod disk;
mod dry_run;
mod events;
mod faults;
mod files;
mod files_of_others;
mod format;
mod interruption;
mod launch;
mod lora;
mod not_finite;
mod processes;
mod published;
mod resume;
mod skipped_rows;
mod support;

use std::fs;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::Config;
use seeward_models::net::{Branch, branches};
use serde_json::Value;

use support::{Run, golden, largest_difference, message, shortcut_aware, weights};

#[test]
fn a_checkpoint_can_be_read_as_a_model() {
    let run = shortcut_aware("").succeed();
    let config = Config::open(&run.last()).unwrap();
    let checkpoint = Checkpoint::open(&run.last()).unwrap();
    assert_eq!(
        branches(&checkpoint, &config).unwrap(),
        [Branch::Main, Branch::TextOnly]
    );
    assert!(
        checkpoint.contains("score.weight")
            && checkpoint.contains("bias_reward_model.score.weight")
    );
    assert!(
        run.last().join("tokenizer.json").exists()
            && run.last().join("config.resolved.yaml").exists()
    );
    let steps = run.metrics();
    assert_eq!(steps.len(), 4);
    for key in [
        "loss",
        "learning_rate",
        "grad_norm",
        "accuracy",
        "sfc_mean",
        "sfc_p10",
        "sfc_p50",
        "sfc_p90",
        "loss_main",
        "loss_text",
        "pairs_per_second",
        "tokens_per_second",
        "padding_share",
        "work_saved",
        "waiting_seconds",
        "peak_memory_bytes",
        "epoch",
    ] {
        assert!(steps.iter().all(|step| step[key].is_number()), "{key}");
    }
}

#[test]
fn it_learns_the_pairs() {
    let run = Run::new(
        "max_steps: 30\nlr_scheduler_type: constant\nshuffle: false\neval_data: {all: FILE}"
            .replace(
                "FILE",
                &golden("train/pairwise.jsonl").display().to_string(),
            )
            .as_str(),
    )
    .succeed();
    let loss = run.series("loss");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&loss[27..30]) < 0.2 * mean(&loss[0..3]), "{loss:?}");
    let evaluations: Vec<f64> = run
        .metrics()
        .iter()
        .filter_map(|line| line["eval"]["all"]["accuracy"].as_f64())
        .collect();
    assert_eq!(*evaluations.last().unwrap(), 1.0);
}

#[test]
fn a_run_resumes_bit_for_bit_from_its_checkpoint() {
    let keys = "max_steps: 5\nsave_steps: 2\ntext_branch_warmup_steps: 2\nwarmup_steps: 2\nlr_scheduler_type: cosine\nweight_decay: 0.05";
    let run = shortcut_aware(keys).succeed();
    let (whole, losses) = (weights(&run.last()), run.series("loss"));
    // As after an interruption between steps 4 and 5.
    fs::remove_dir_all(run.last()).unwrap();
    let run = run.succeed();
    assert_eq!(whole, weights(&run.last()));
    assert_eq!(run.series("loss"), losses);
}

#[test]
fn a_run_does_not_resume_under_another_config() {
    let run = Run::new("").succeed();
    let message = run.refuse(&["--set", "learning_rate=2e-3"]);
    assert!(
        message.contains("another learning_rate") && message.contains("overwrite_output_dir"),
        "{message}"
    );
    let from_scratch = run.train(&[
        "--set",
        "learning_rate=2e-3",
        "--set",
        "overwrite_output_dir=true",
    ]);
    assert!(from_scratch.status.success());
}

#[test]
fn save_total_limit_keeps_the_newest_checkpoints() {
    let run = Run::new("max_steps: 4\nsave_steps: 1\nsave_total_limit: 2").succeed();
    assert_eq!(
        run.names("checkpoint"),
        ["checkpoint-2", "checkpoint-3", "checkpoint-last"]
    );
}

/// The tokenizer's files, which every checkpoint copies, must not be lost with it.
#[test]
fn the_checkpoint_that_a_run_resumes_from_may_be_pruned() {
    let run = Run::new("max_steps: 4\nsave_steps: 1").succeed();
    for later in ["checkpoint-2", "checkpoint-3", "checkpoint-last"] {
        fs::remove_dir_all(run.output().join(later)).unwrap();
    }
    let resumed = run.train(&["--set", "save_total_limit=1"]);
    let stderr = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{stderr}");
    assert_eq!(run.names("checkpoint"), ["checkpoint-3", "checkpoint-last"]);
    assert!(run.last().join("tokenizer.json").exists());
}

#[test]
fn accumulation_changes_nothing_but_rounding() {
    let whole = Run::new("shuffle: false").succeed();
    let halves =
        Run::new("shuffle: false\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 2")
            .succeed();
    // Adam divides by the root of the squared gradient, so rounding of tiny gradients can change a weight by up to the
    // learning rate, 1e-3; the loss has the tighter tolerance.
    for (a, b) in whole.series("loss").iter().zip(halves.series("loss")) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    assert!(largest_difference(&weights(&whole.last()), &weights(&halves.last())) < 1e-3);
}

#[test]
fn the_text_only_branch_warms_up_alone() {
    let run = shortcut_aware(
        "max_steps: 1\nwarmup_steps: 1\ntext_branch_warmup_steps: 3\nweight_decay: 0.05",
    )
    .succeed();
    let (before, after) = (weights(&golden("models/qwen2")), weights(&run.last()));
    let text = |name: &str| format!("bias_reward_model.{name}");
    // The learning rate of the first common step is 0, so only the text-only branch has changed.
    for (name, weight) in &before {
        assert_eq!(*weight, after[name], "{name}");
    }
    let head = "score.weight";
    assert_ne!(before[head], after[&text(head)]);
    assert_eq!(run.metrics().len(), 1);
}

#[test]
fn frozen_parts_stay_unchanged() {
    let run = Run::new("freeze_backbone: true\nfreeze_mlp: true\nfreeze_llm: true").succeed();
    let (before, after) = (weights(&golden("models/qwen2")), weights(&run.last()));
    let moved: Vec<_> = before
        .keys()
        .filter(|name| before[*name] != after[*name])
        .collect();
    assert_eq!(moved, ["score.weight"]);
}

#[test]
fn layers_of_a_frozen_vision_model_may_train() {
    let run = Run::new(
        "freeze_backbone: true\nfreeze_mlp: true\nfreeze_llm: true\nunfreeze_vit_layers: -1",
    )
    .succeed();
    let (before, after) = (weights(&golden("models/qwen2")), weights(&run.last()));
    let moved = before
        .keys()
        .filter(|name| before[*name] != after[*name] && *name != "score.weight");
    let last = |name: &String| name.starts_with("vision_model.encoder.layers.1.");
    assert!(moved.clone().count() > 10 && moved.clone().all(last));
}

#[test]
fn an_output_projection_may_train_alone() {
    let frozen = "algorithm: sft\nfreeze_backbone: true\nfreeze_mlp: true\nfreeze_llm: true";
    let run = Run::new(&format!("{frozen}\nunfreeze_lm_head: true")).succeed();
    let (before, after) = (weights(&golden("models/qwen2")), weights(&run.last()));
    let moved: Vec<_> = after
        .keys()
        .filter(|name| before[*name] != after[*name])
        .collect();
    assert_eq!(moved, ["language_model.lm_head.weight"]);
    let stderr = message(&Run::new("unfreeze_lm_head: true\nmax_steps: 1").train(&[]));
    assert!(stderr.contains("unfreeze_lm_head: not used"), "{stderr}");
}

#[test]
fn evaluations_run_by_steps_or_epochs_or_not_at_all() {
    let evaluated = |strategy: &str| {
        let run = Run::new(&format!(
            "max_steps: 7\neval_steps: 2\neval_data: {{all: {}}}\n{strategy}",
            golden("train/pairwise.jsonl").display()
        ))
        .succeed();
        let metrics = run.metrics();
        let evaluations = metrics.iter().filter(|line| line.get("eval").is_some());
        let steps = evaluations.map(|line| line["step"].as_u64().unwrap());
        steps.collect::<Vec<u64>>()
    };
    assert_eq!(evaluated(""), [2, 4, 6, 7]);
    assert!(evaluated("eval_strategy: 'no'").is_empty());
    // Twelve rows, four at a time.
    assert_eq!(evaluated("evaluation_strategy: epoch"), [3, 6, 7]);
}

#[test]
fn sft_leaves_a_model_without_a_head_that_rewards_start_from() {
    let sft = Run::new("algorithm: sft\nmax_steps: 20\nlr_scheduler_type: constant").succeed();
    let loss = sft.series("loss");
    assert!(loss[19] < 0.5 * loss[0], "{loss:?}");
    assert!(
        !Checkpoint::open(&sft.last())
            .unwrap()
            .contains("score.weight")
    );
    let (before, after) = (weights(&golden("models/qwen2")), weights(&sft.last()));
    assert_ne!(
        before["language_model.lm_head.weight"],
        after["language_model.lm_head.weight"]
    );
    let from = format!(
        "model_name_or_path: {0}\nbias_model_path: {0}\nmax_steps: 1\nwarmup_steps: 1",
        sft.last().display()
    );
    let reward = weights(&Run::new(&from).succeed().last());
    assert_eq!(
        after["language_model.lm_head.weight"],
        reward["language_model.lm_head.weight"]
    );
    assert_ne!(
        reward["score.weight"],
        reward["bias_reward_model.score.weight"]
    );
    let scale = reward["score.weight"].iter().map(|w| w * w).sum::<f32>() / 64.0;
    // N(0, 1/65) over 64 weights: the mean square is within a third of its expectation but for four deviations.
    assert!((scale.sqrt() * 65.0 - 1.0).abs() < 0.35, "{scale}");
}

#[test]
fn the_input_mode_is_written_to_the_config() {
    for (key, mode) in [
        ("use_text_only", "text_only"),
        ("use_image_only", "image_only"),
    ] {
        let run = Run::new(&format!("{key}: true\nmax_steps: 1")).succeed();
        let config: Value =
            serde_json::from_str(&fs::read_to_string(run.last().join("config.json")).unwrap())
                .unwrap();
        assert_eq!(config["seeward"]["input_mode"], mode);
    }
}

#[test]
fn bad_input_is_named() {
    let write = |run: &Run, text: &str| {
        let path = run.folder.path().join("rows.jsonl");
        fs::write(&path, text).unwrap();
        format!("dataset_path={}", path.display())
    };
    let run = Run::new("");
    let message = run.refuse(&[
        "--set",
        &write(
            &run,
            "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{",
        ),
    ]);
    assert!(message.contains("rows.jsonl:2: "), "{message}");
    let row =
        "{\"prompt\": \"p\", \"img_path\": \"none.png\", \"chosen\": \"a\", \"rejected\": \"b\"}";
    let message = run.refuse(&["--set", &write(&run, row)]);
    assert!(
        message.contains("none.png") && message.contains("No such file"),
        "{message}"
    );
    let message = run.refuse(&["--set", &write(&run, "\n")]);
    assert!(message.contains("no training rows"), "{message}");
    let message = run.refuse(&["--set", "model_name_or_path=/nowhere"]);
    assert!(message.contains("/nowhere"), "{message}");
    let message = run.refuse(&["--set", "learning_rat=1"]);
    assert!(message.contains("learning_rate"), "{message}");
}

#[test]
fn a_missing_cuda_device_is_reported() {
    if tch::Cuda::is_available() {
        return;
    }
    let message = Run::new("").refuse(&["--device", "cuda"]);
    assert!(
        message.contains("sees 0 CUDA devices: ") && message.contains("make setup DEVICE=cuda"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        Run::new("")
            .refuse(&["--device", "tpu"])
            .contains("expected cpu, cuda or cuda:N")
    );
}

#[test]
fn a_share_of_unreadable_rows_may_be_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let row = "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n";
    fs::write(&rows, format!("{}{{\n", row.repeat(3))).unwrap();
    let run = Run::new(&format!("dataset_path: {}\nmax_steps: 1", rows.display()));
    let stderr = run.refuse(&["--set", "max_bad_fraction=0.2"]);
    let place = format!("{}:4: ", rows.display());
    assert!(
        stderr.contains(&place) && stderr.contains("1 of 4 rows are unreadable"),
        "{stderr}"
    );
    let output = run.train(&["--set", "max_bad_fraction=0.25"]);
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains(&place) && stderr.contains("skipped"),
        "{stderr}"
    );
}
