//! `resume_from_checkpoint`: checkpoints from which a run resumes, and those it refuses.

use std::fs;

use crate::support::{Run, message, weights};

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
