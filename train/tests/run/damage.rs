//! Damaged checkpoints.

use std::fs;
use std::path::Path;

use seeward_train::output::trainer_state::TrainerState;

use crate::support::{Run, message, weights};

fn run() -> Run {
    Run::new("max_steps: 4\nsave_steps: 1")
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

const FILES: [&str; 6] = [
    "model.safetensors",
    "optimizer.safetensors",
    "trainer_state.json",
    "config.json",
    "config.resolved.yaml",
    "tokenizer.json",
];

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_used() {
    let whole = run().succeed();
    let run = run().succeed();
    for (number, file) in FILES.into_iter().enumerate() {
        let damage = [flip, truncate, remove][number % 3];
        damage(&run.last().join(file));
        let output = run.train(&[]);
        let stderr = message(&output);
        let path = run.last().join(file);
        assert!(output.status.success(), "{stderr}");
        assert!(
            stderr.contains(&format!("warning: {}: ", path.display())),
            "{stderr}"
        );
        assert!(stderr.contains("checkpoint-last.damaged"), "{stderr}");
        let before = run.output().join("checkpoint-3");
        let used = format!("resuming from {}\n", before.display());
        assert!(stderr.contains(&used), "{stderr}");
        assert_eq!(run.records(), whole.records(), "{file}");
        assert_eq!(weights(&run.last()), weights(&whole.last()), "{file}");
    }
}

#[test]
fn damage_to_any_file_of_a_checkpoint_is_detected() {
    let run = run().succeed();
    let mut files: Vec<_> = fs::read_dir(run.last())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.push(run.last().join("probes/probes.json"));
    assert!(files.len() > FILES.len());
    for path in files {
        let whole = fs::read(&path).unwrap();
        for damage in [flip, truncate] {
            damage(&path);
            let error = TrainerState::read_verified(&run.last()).unwrap_err();
            let message = format!("{error:#}");
            assert!(
                message.starts_with(&path.display().to_string()),
                "{message}"
            );
            fs::write(&path, &whole).unwrap();
        }
    }
    TrainerState::read_verified(&run.last()).unwrap();
}

#[test]
fn without_an_intact_checkpoint_nothing_is_changed() {
    let run = run().succeed();
    let names = run.names("checkpoint");
    for name in &names {
        flip(&run.output().join(name).join("model.safetensors"));
    }
    let records = run.metrics();
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains("no intact checkpoint to resume from"),
        "{stderr}"
    );
    for name in &names {
        let path = run.output().join(name).join("model.safetensors");
        assert!(stderr.contains(&path.display().to_string()), "{stderr}");
    }
    assert_eq!(run.names("checkpoint"), names);
    assert_eq!(run.metrics(), records);
}

#[test]
fn a_damaged_checkpoint_does_not_displace_an_intact_one() {
    let run = Run::new("max_steps: 4\nsave_steps: 1\nsave_total_limit: 1").succeed();
    assert_eq!(run.names("checkpoint"), ["checkpoint-3", "checkpoint-last"]);
    flip(&run.last().join("model.safetensors"));
    let run = run.succeed();
    assert_eq!(
        run.names("checkpoint"),
        ["checkpoint-3", "checkpoint-last", "checkpoint-last.damaged"]
    );
}

#[test]
fn a_run_that_cannot_start_from_scratch_keeps_the_old_one() {
    let run = run().succeed();
    let names = run.names("");
    let from_scratch = ["--set", "overwrite_output_dir=true", "--set"];
    run.refuse(&[&from_scratch[..], &["dataset_path=/nowhere.jsonl"]].concat());
    let same_folder = format!("model_name_or_path={}", run.last().display());
    let stderr = run.refuse(&[&from_scratch[..], &[&same_folder]].concat());
    assert!(stderr.contains("in its own output_dir"), "{stderr}");
    assert_eq!(run.names(""), names);
}
