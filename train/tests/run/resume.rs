//! `resume_from_checkpoint`: checkpoints from which a run resumes, and those it refuses.

use std::fs;

use crate::support::{Run, golden, message, weights};

const STEPS: &str = "max_steps: 4\nsave_steps: 2";

#[test]
fn a_new_run_resumes_from_a_checkpoint_of_another_folder() {
    let whole = Run::new(STEPS).succeed();
    let middle = whole.output().join("checkpoint-2");
    let from = format!("resume_from_checkpoint={}", middle.display());
    let run = Run::new(STEPS);
    let output = run.train(&["--set", &from]);
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    let place = format!("resuming from {}", middle.display());
    assert!(stderr.contains(&place), "{stderr}");
    assert_eq!(weights(&run.last()), weights(&whole.last()));
    let optimizer = |run: &Run| fs::read(run.last().join("optimizer.safetensors")).unwrap();
    assert!(optimizer(&run) == optimizer(&whole));
    assert_eq!(run.records(), whole.records()[2..]);
    assert!(run.output().join("config.resolved.yaml").exists());
    // Now the run has its own checkpoints.
    let stderr = message(&run.train(&["--set", &from]));
    assert!(
        stderr.contains("checkpoint-last: the run is complete"),
        "{stderr}"
    );
    let stderr = Run::new(STEPS).refuse(&["--set", &from, "--set", "seed=1"]);
    assert!(stderr.contains("started with another seed"), "{stderr}");
    let stderr = Run::new(STEPS).refuse(&["--set", "resume_from_checkpoint=/nowhere"]);
    assert!(
        stderr.contains("resume_from_checkpoint: /nowhere"),
        "{stderr}"
    );
}

#[test]
fn newer_checkpoints_are_not_overwritten() {
    let run = Run::new(STEPS).succeed();
    let before = weights(&run.last());
    let older = run.output().join("checkpoint-2");
    let stderr = run.refuse(&[
        "--set",
        &format!("resume_from_checkpoint={}", older.display()),
    ]);
    assert!(stderr.contains("checkpoint-last is newer"), "{stderr}");
    let stderr = run.refuse(&["--set", "resume_from_checkpoint=false"]);
    assert!(
        stderr.contains("needs a folder without checkpoints"),
        "{stderr}"
    );
    assert_eq!(weights(&run.last()), before);
    // The newest checkpoint may be named.
    fs::remove_dir_all(run.last()).unwrap();
    let named = format!("resume_from_checkpoint={}", older.display());
    let output = run.train(&["--set", &named]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(weights(&run.last()), before);
    let output = Run::new(STEPS).train(&["--set", "resume_from_checkpoint=false"]);
    assert!(output.status.success(), "{}", message(&output));
}

#[test]
fn a_checkpoint_without_optimizer_state_is_not_resumed() {
    let whole = Run::new(STEPS).succeed();
    let run = Run::new(&format!("{STEPS}\nsave_only_model: true")).succeed();
    assert_eq!(weights(&run.last()), weights(&whole.last()));
    for name in run.names("checkpoint") {
        assert!(
            !run.output()
                .join(name)
                .join("optimizer.safetensors")
                .exists()
        );
    }
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains("checkpoint-last: no run can resume from it"),
        "{stderr}"
    );
    let output = run.train(&["--set", "overwrite_output_dir=true"]);
    assert!(output.status.success(), "{}", message(&output));
}

/// The golden pairs in a file of the run's folder, changed by `change`.
fn rows(run: &Run, change: impl Fn(Vec<&str>) -> Vec<&str>) -> String {
    let text = fs::read_to_string(golden("train/pairwise.jsonl")).unwrap();
    let path = run.folder.path().join("rows.jsonl");
    fs::write(&path, change(text.lines().collect()).join("\n") + "\n").unwrap();
    format!("dataset_path={}", path.display())
}

#[test]
fn a_run_does_not_resume_with_other_rows() {
    let run = Run::new(&format!(
        "{STEPS}\nimage_root: {}",
        golden("train").display()
    ));
    let same = rows(&run, |rows| rows);
    let output = run.train(&["--set", &same]);
    assert!(output.status.success(), "{}", message(&output));
    let stderr = message(&run.train(&["--set", &same]));
    assert!(stderr.contains("the run is complete"), "{stderr}");
    let before = weights(&run.last());
    let changed = rows(&run, |rows| rows.into_iter().rev().collect());
    // Complete or not.
    for _ in 0..2 {
        let stderr = run.refuse(&["--set", &changed]);
        assert!(
            stderr.contains("rows.jsonl: the rows have changed since "),
            "{stderr}"
        );
        if run.last().exists() {
            assert_eq!(weights(&run.last()), before);
            fs::remove_dir_all(run.last()).unwrap();
        }
    }
    let output = run.train(&["--set", &rows(&run, |rows| rows)]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(weights(&run.last()), before);
}

#[test]
fn a_finished_run_takes_more_steps_when_asked() {
    let run = Run::new("max_steps: 2\nlr_scheduler_type: constant\nsave_steps: 3").succeed();
    let whole = Run::new("max_steps: 4\nlr_scheduler_type: constant").succeed();
    let more = ["--set", "max_steps=4"];
    let stderr = run.refuse(&more);
    let hint = "another max_steps: extend: true takes more steps; or choose another output_dir";
    assert!(stderr.contains(hint), "{stderr}");
    let extended = [&more[..], &["--set", "extend=true"]].concat();
    let output = run.train(&extended);
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    let notice = format!("extending {} from 2 to 4 steps", run.last().display());
    assert!(stderr.contains(&notice), "{stderr}");
    // At a constant rate it is the uninterrupted run all the same.
    assert_eq!(weights(&run.last()), weights(&whole.last()));
    assert_eq!(run.series("loss"), whole.series("loss"));
    assert_eq!(run.names("checkpoint"), ["checkpoint-3", "checkpoint-last"]);
    let stderr = message(&run.train(&extended));
    assert!(
        stderr.contains("checkpoint-last: the run is complete"),
        "{stderr}"
    );
    let fewer = [&extended[..], &["--set", "max_steps=3"]].concat();
    let stderr = run.refuse(&fewer);
    assert!(
        stderr.contains("has taken 4 steps: expected more of them, got 3"),
        "{stderr}"
    );
    // In another folder, from a checkpoint of the run.
    let from = format!(
        "resume_from_checkpoint={}",
        run.output().join("checkpoint-3").display()
    );
    let other = Run::new("max_steps: 5\nlr_scheduler_type: constant");
    let output = other.train(&["--set", &from, "--set", "extend=true"]);
    assert!(output.status.success(), "{}", message(&output));
}

#[test]
fn an_interrupted_extension_resumes_from_its_own_checkpoint() {
    let run = Run::new("max_steps: 2\nsave_steps: 1").succeed();
    let extended = ["--set", "max_steps=4", "--set", "extend=true"];
    let output = run.train(&extended);
    assert!(output.status.success(), "{}", message(&output));
    let whole = weights(&run.last());
    // As if it were killed after step 3: the checkpoint of the first run is there, and older.
    let first = Run::new("max_steps: 2\nsave_steps: 1").succeed();
    fs::remove_dir_all(run.last()).unwrap();
    fs::rename(first.last(), run.last()).unwrap();
    let stderr = message(&run.train(&extended));
    let place = format!(
        "resuming from {}",
        run.output().join("checkpoint-3").display()
    );
    assert!(stderr.contains(&place), "{stderr}");
    assert_eq!(weights(&run.last()), whole);
}

#[test]
fn the_state_of_another_trainer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = r#"{"best_metric": null, "epoch": 0.5, "global_step": 100, "log_history": []}"#;
    fs::write(folder.path().join("trainer_state.json"), state).unwrap();
    let from = format!("resume_from_checkpoint={}", folder.path().display());
    let stderr = Run::new(STEPS).refuse(&["--set", &from]);
    let cure =
        "the state of another trainer, from which no run can resume: start from its checkpoint";
    assert!(stderr.contains(cure), "{stderr}");
    let run = Run::new(STEPS);
    fs::create_dir_all(run.output().join("checkpoint-100")).unwrap();
    fs::write(
        run.output().join("checkpoint-100/trainer_state.json"),
        state,
    )
    .unwrap();
    assert!(run.refuse(&[]).contains(cure));
}

/// The checkpoint that version 0.1.0 saved after step 2, and its losses of steps 3 and 4.
#[test]
fn a_checkpoint_of_the_first_version_resumes_with_a_notice() {
    let keys = "model_name_or_path: models/qwen2\ndataset_path: train/pairwise.jsonl\nfreeze_llm: true\n\
                freeze_backbone: true\nbf16: true";
    let run = Run::new(keys);
    let from = "resume_from_checkpoint=train/checkpoint_0_1_0";
    let mut program = run.program();
    program.args(["--set", from]).current_dir(golden(""));
    let output = program.output().unwrap();
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    let notice = "train/checkpoint_0_1_0: saved by version 0.1.0 without a hash of the rows";
    assert!(
        stderr.contains(notice) && stderr.contains("resuming from train/"),
        "{stderr}"
    );
    let losses = run.series("loss");
    let expected = [0.5164, 0.6513];
    let near = |(got, expected): (&f64, f64)| (got - expected).abs() < 0.02;
    assert!(
        losses.len() == 2 && losses.iter().zip(expected).all(near),
        "{losses:?}"
    );
}
