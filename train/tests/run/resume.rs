//! The checkpoint that a run resumes from, if the config asks for it, and refusals.

use std::fs;

use crate::support::{Run, message, weights};

const STEPS: &str = "max_steps: 4\nsave_steps: 2";

#[test]
fn a_checkpoint_elsewhere_is_gone_on_from() {
    let whole = Run::new(STEPS).succeed();
    let middle = whole.output().join("checkpoint-2");
    let from = format!("resume_from_checkpoint={}", middle.display());
    let run = Run::new(STEPS);
    let output = run.train(&["--set", &from]);
    let said = message(&output);
    assert!(output.status.success(), "{said}");
    let place = format!("resuming from {}", middle.display());
    assert!(said.contains(&place), "{said}");
    assert_eq!(weights(&run.last()), weights(&whole.last()));
    let optimizer = |run: &Run| fs::read(run.last().join("optimizer.safetensors")).unwrap();
    assert!(optimizer(&run) == optimizer(&whole));
    assert_eq!(run.records(), whole.records()[2..]);
    assert!(run.output().join("config.resolved.yaml").exists());
    // From here on the run has its own checkpoints.
    let said = message(&run.train(&["--set", &from]));
    assert!(
        said.contains("checkpoint-last: the run is complete"),
        "{said}"
    );
    let said = Run::new(STEPS).refuse(&["--set", &from, "--set", "seed=1"]);
    assert!(said.contains("started with another seed"), "{said}");
    let said = Run::new(STEPS).refuse(&["--set", "resume_from_checkpoint=/nowhere"]);
    assert!(said.contains("resume_from_checkpoint: /nowhere"), "{said}");
}

#[test]
fn nothing_newer_is_run_over() {
    let run = Run::new(STEPS).succeed();
    let before = weights(&run.last());
    let older = run.output().join("checkpoint-2");
    let said = run.refuse(&[
        "--set",
        &format!("resume_from_checkpoint={}", older.display()),
    ]);
    assert!(said.contains("checkpoint-last is newer"), "{said}");
    let said = run.refuse(&["--set", "resume_from_checkpoint=false"]);
    assert!(
        said.contains("wants a folder without checkpoints"),
        "{said}"
    );
    assert_eq!(weights(&run.last()), before);
    // The newest may be named, too.
    fs::remove_dir_all(run.last()).unwrap();
    let named = format!("resume_from_checkpoint={}", older.display());
    let output = run.train(&["--set", &named]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(weights(&run.last()), before);
    let output = Run::new(STEPS).train(&["--set", "resume_from_checkpoint=false"]);
    assert!(output.status.success(), "{}", message(&output));
}

#[test]
fn the_model_alone_is_saved_and_not_gone_on_from() {
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
    let said = run.refuse(&[]);
    assert!(
        said.contains("checkpoint-last: it holds the model alone"),
        "{said}"
    );
    let output = run.train(&["--set", "overwrite_output_dir=true"]);
    assert!(output.status.success(), "{}", message(&output));
}
