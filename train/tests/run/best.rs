//! The best checkpoint by an evaluation, and runs that stop early.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Run, golden, message, shortcut_aware, weights};

/// A config whose learning rate is too high for a steady improvement.
fn keys() -> String {
    format!(
        "max_steps: 12\nlearning_rate: 2.0e-2\nlr_scheduler_type: constant\nper_device_train_batch_size: 2\n\
         load_best_model_at_end: true\nsave_steps: 3\nsave_total_limit: 1\neval_steps: 1\neval_data: {{all: {}}}",
        golden("train/pairwise.jsonl").display()
    )
}

/// Step and value of the lowest loss over the evaluation set.
fn lowest(run: &Run) -> (u64, f64) {
    let metrics = run.metrics();
    let evaluations = metrics.iter().filter_map(|line| {
        let loss = line["eval"]["all"]["loss"].as_f64()?;
        Some((line["step"].as_u64().unwrap(), loss))
    });
    evaluations.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

fn state(checkpoint: &Path) -> Value {
    let text = fs::read_to_string(checkpoint.join("trainer_state.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["state"].clone()
}

#[test]
fn the_best_evaluation_is_kept_and_restored_when_a_run_resumes() {
    let run = shortcut_aware(&keys());
    let stderr = message(&run.train(&[]));
    let best = run.output().join("checkpoint-best");
    let (step, loss) = lowest(&run);
    assert!(
        step < 12,
        "the last step is the best, so this tests nothing"
    );
    assert_eq!(state(&best)["progress"]["step"], step);
    let end = format!("after step {step}: {}", best.display());
    assert!(
        stderr.contains("best: ") && stderr.contains(&end),
        "{stderr}"
    );
    let kept = state(&run.last())["best"].clone();
    assert_eq!(kept["step"], step);
    assert!((kept["value"].as_f64().unwrap() - loss).abs() < 1e-6 * loss);
    assert_eq!(
        run.names("checkpoint"),
        ["checkpoint-9", "checkpoint-best", "checkpoint-last"]
    );
    let (weights_before, records) = (weights(&best), run.records());
    fs::remove_dir_all(run.last()).unwrap();
    let run = run.succeed();
    assert_eq!(state(&run.last())["best"], kept);
    assert_eq!(weights(&best), weights_before);
    assert_eq!(run.records(), records);
}

#[test]
fn a_run_without_improvement_stops_early_and_stays_complete() {
    let keys = keys().replace("2.0e-2", "0") + "\nearly_stopping_patience: 2";
    let run = Run::new(&keys);
    let stderr = message(&run.train(&[]));
    // The first evaluation is the best, because the weights do not change.
    assert!(
        stderr.contains("stopped early after step 3: 2 evaluations"),
        "{stderr}"
    );
    assert_eq!(state(&run.last())["progress"]["step"], 3);
    assert_eq!(
        state(&run.output().join("checkpoint-best"))["progress"]["step"],
        1
    );
    let before = fs::read(run.last().join("trainer_state.json")).unwrap();
    let again = run.train(&[]);
    assert!(again.status.success() && message(&again).contains("stopped early"));
    assert_eq!(
        fs::read(run.last().join("trainer_state.json")).unwrap(),
        before
    );
    assert_eq!(run.metrics().len(), 6);
}

#[test]
fn a_metric_that_is_not_evaluated_is_refused() {
    let stderr = message(&Run::new("load_best_model_at_end: true").train(&[]));
    assert!(
        stderr.contains("load_best_model_at_end: expected evaluations"),
        "{stderr}"
    );
    let stderr =
        message(&Run::new(&keys()).train(&["--set", "metric_for_best_model=accuracy_text"]));
    assert!(
        stderr.contains("the evaluation has no accuracy_text"),
        "{stderr}"
    );
}
