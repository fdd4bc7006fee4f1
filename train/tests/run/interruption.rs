//! Runs that are killed or interrupted, and resume with the same results.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use seeward_train::output::folder::OutputFolder;
use seeward_train::random::Stream;
use seeward_train::world::ranks::World;

use crate::support::{Run, golden, message, shortcut_aware, weights};

const STEPS: usize = 6;

/// A run with all that resuming must restore: warm-up, evaluations, retention.
fn run() -> Run {
    shortcut_aware(&format!(
        "max_steps: {STEPS}\nsave_steps: 2\nsave_total_limit: 2\ntext_branch_warmup_steps: 2\nwarmup_steps: 2\n\
         lr_scheduler_type: cosine\nweight_decay: 0.05\neval_steps: 2\neval_data: {{all: {}}}",
        golden("train/pairwise.jsonl").display()
    ))
}

impl Run {
    fn start(&self) -> Child {
        let mut program = self.program();
        program
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Waits until `count` records are written or the run ends.
    fn wait_for_records(&self, child: &mut Child, count: usize) {
        let metrics = self.output().join("metrics.jsonl");
        let records = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        while records() < count && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the output folder has an entry whose name starts with `start`.
    fn wait_for(&self, child: &mut Child, start: &str) {
        while !self.output().exists() || self.names(start).is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "{start} never came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until the run logs a step.
fn wait_for_step(child: &mut Child, step: usize) {
    let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let of_step = format!("{{\"step\":{step},");
    let mut lines = stderr.map(Result::unwrap);
    assert!(
        lines.any(|line| line.starts_with(&of_step)),
        "step {step} never came"
    );
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Checks that the run's folder has no trace of an interruption.
fn assert_same(run: &Run, whole: &Run) {
    assert_eq!(run.records(), whole.records());
    assert_eq!(weights(&run.last()), weights(&whole.last()));
    let optimizer = |run: &Run| fs::read(run.last().join("optimizer.safetensors")).unwrap();
    assert!(
        optimizer(run) == optimizer(whole),
        "optimizer states differ"
    );
    assert_eq!(run.names("."), [""; 0]);
    assert_eq!(run.names("checkpoint"), whole.names("checkpoint"));
}

#[test]
fn a_run_killed_at_every_step_and_resumed_is_the_same_run() {
    let whole = run().succeed();
    let run = run();
    for step in 1..=STEPS {
        let mut child = run.start();
        wait_for_step(&mut child, step);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // As after a kill while a checkpoint was written.
    let partial = run.output().join(".checkpoint-4.partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("model.safetensors"), "half a fi").unwrap();
    assert_same(&run.succeed(), &whole);
}

#[test]
fn a_run_killed_at_random_moments_is_the_same_run() {
    let started = Instant::now();
    let whole = run().succeed();
    let lasts = started.elapsed().as_millis() as usize;
    let run = run();
    let mut random = Stream::new(0, "kill", 0);
    for _ in 0..8 {
        let mut child = run.start();
        std::thread::sleep(Duration::from_millis(random.below(lasts) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_same(&run.succeed(), &whole);
}

#[test]
fn a_signal_ends_the_step_saves_it_and_explains_how_to_resume() {
    // More steps than the run takes before the signal arrives.
    let run = || Run::new("max_steps: 40\nlr_scheduler_type: cosine");
    let whole = run().succeed();
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let run = run();
        let mut child = run.start();
        run.wait_for_records(&mut child, 1);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", message(&output));
        let step = run.metrics().last().unwrap()["step"].as_u64().unwrap();
        let saved = run.output().join(format!("checkpoint-{step}"));
        assert!(step < 40 && saved.join("model.safetensors").exists());
        let stderr = message(&output);
        assert!(
            stderr.contains(&format!(
                "{}: rerun the same command to resume",
                saved.display()
            )),
            "{stderr}"
        );
        let run = run.succeed();
        assert_eq!(run.records(), whole.records());
        assert_eq!(weights(&run.last()), weights(&whole.last()));
    }
}

#[test]
fn a_warm_up_resumes_in_its_middle() {
    let keys = "max_steps: 2\nwarmup_steps: 1\ntext_branch_warmup_steps: 40\nsave_steps: 3";
    let whole = shortcut_aware(keys).succeed();
    let run = shortcut_aware(keys);
    let mut child = run.start();
    run.wait_for(&mut child, "checkpoint-warmup-3");
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", message(&output));
    let stderr = message(&output);
    assert!(stderr.contains("checkpoint-warmup-"), "{stderr}");
    assert_eq!(run.metrics().len(), 0);
    let run = run.succeed();
    assert_eq!(run.records(), whole.records());
    assert_eq!(weights(&run.last()), weights(&whole.last()));
}

/// The resumed run uses the cached features of the interrupted run and computes the others, with the same bits.
#[test]
fn cached_features_survive_an_interruption_until_the_run_is_complete() {
    let keys = format!("freeze_backbone: true\nmax_steps: {STEPS}\nsave_steps: 2\nwarmup_steps: 1");
    let whole = shortcut_aware(&keys).succeed();
    let run = shortcut_aware(&format!(
        "{keys}\nvision_cache_memory: 0\nvision_cache_disk: 1e9"
    ));
    let mut child = run.start();
    wait_for_step(&mut child, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = run.output().join("vision-cache/main");
    assert!(fs::read_dir(kept).unwrap().count() > 2);
    let run = run.succeed();
    assert_same(&run, &whole);
    assert_eq!(run.names("vision-cache"), [""; 0]);
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    // One step over these rows takes far longer than two signals.
    let rows = fs::read_to_string(golden("train/pairwise.jsonl")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let many = folder.path().join("many.jsonl");
    fs::write(&many, rows.repeat(200)).unwrap();
    let run = Run::new(&format!(
        "dataset_path: {}\nimage_root: {}\ngradient_accumulation_steps: 1000\nmax_steps: 1",
        many.display(),
        golden("train").display()
    ));
    let mut child = run.start();
    run.wait_for(&mut child, "events");
    send(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(20));
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    assert_eq!(run.names("checkpoint"), [""; 0]);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let run = Run::new("");
    let first = OutputFolder::open(&run.output(), &World::default()).unwrap();
    let second = run.refuse(&[]);
    assert!(second.contains("another run is writing it"), "{second}");
    drop(first);
    run.succeed();
}
