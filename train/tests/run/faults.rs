//! One of several processes fails, is killed, hangs or never comes: all end, with the reason, and a restart continues.

use std::fs;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::launch::{Processes, free_port};
use crate::support::{Run, message};

/// The time within which all processes end.
const SOON: Duration = Duration::from_secs(20);
/// A run of more steps than it takes before something happens to it.
const LONG: &str = "max_steps: 2000\nper_device_train_batch_size: 1\nsave_steps: 2000\nlr_scheduler_type: constant";

impl Run {
    /// Waits until `count` steps are logged.
    fn wait_for_steps(&self, count: usize) {
        let started = Instant::now();
        let metrics = self.output().join("metrics.jsonl");
        let steps = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        while steps() < count {
            assert!(started.elapsed() < Duration::from_secs(60), "no step came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn send(processes: &Processes, rank: usize, signal: Signal) {
    kill_process(Pid::from_child(&processes.0[rank]), signal).unwrap();
}

fn ended(mut processes: Processes) -> Vec<Output> {
    processes.wait(SOON);
    processes.outputs()
}

#[test]
fn the_error_of_one_process_ends_all_with_its_message() {
    for failing in 0..3 {
        let run = Run::new("max_steps: 1");
        let port = free_port();
        let reported = run.folder.path().join("error.json");
        let start = |rank| {
            let mut command = run.rank(rank, 3, port);
            if rank == failing {
                command.args(["--set", "dataset_path=/nowhere.jsonl"]);
                command.env("TORCHELASTIC_ERROR_FILE", &reported);
            }
            command.spawn().unwrap()
        };
        for output in ended(Processes((0..3).map(start).collect())) {
            let stderr = message(&output);
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            let error = format!("error: rank {failing}: /nowhere.jsonl: ");
            assert_eq!(stderr.matches(&error).count(), 1, "{stderr}");
        }
        let reported = fs::read_to_string(reported).unwrap();
        assert!(
            reported.contains(&format!("rank {failing}: /nowhere.jsonl")),
            "{reported}"
        );
    }
}

#[test]
fn a_killed_process_ends_all() {
    for killed in 0..2 {
        let run = Run::new(LONG);
        let processes = run.launch(2, &[]);
        run.wait_for_steps(2);
        send(&processes, killed, Signal::KILL);
        let outputs = ended(processes);
        let stderr = message(&outputs[1 - killed]);
        assert_eq!(outputs[1 - killed].status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("has ended without a message")
                || stderr.contains("has ended or does not answer"),
            "{stderr}"
        );
    }
}

#[test]
fn a_process_that_hangs_ends_the_others_after_the_timeout() {
    let run = Run::new(&format!("{LONG}\nddp_timeout: 3"));
    let mut processes = run.launch(2, &[]);
    run.wait_for_steps(2);
    send(&processes, 1, Signal::STOP);
    let hanging = processes.0.pop().unwrap();
    let outputs = ended(processes);
    drop(Processes(vec![hanging]));
    let stderr = message(&outputs[0]);
    assert_eq!(outputs[0].status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("another process has ended or does not answer"),
        "{stderr}"
    );
}

#[test]
fn a_process_that_never_comes_is_named() {
    let run = Run::new("ddp_timeout: 2");
    let mut first = run.rank(0, 3, free_port());
    let processes = Processes(vec![first.spawn().unwrap()]);
    let output = ended(processes).remove(0);
    let stderr = message(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("rank 1, rank 2 did not come within 2 s (ddp_timeout)"),
        "{stderr}"
    );
}

#[test]
fn a_signal_to_one_process_stops_all_after_the_same_step() {
    let run = Run::new(LONG);
    let processes = run.launch(2, &[]);
    run.wait_for_steps(2);
    send(&processes, 1, Signal::TERM);
    for output in ended(processes) {
        assert_eq!(output.status.code(), Some(143), "{}", message(&output));
    }
    let step = run.metrics().last().unwrap()["step"].as_u64().unwrap();
    assert_eq!(run.names("checkpoint"), [format!("checkpoint-{step}")]);
}

#[test]
fn the_launcher_passes_a_signal_on() {
    let run = Run::new(LONG);
    let mut program = run.program();
    let program = program.args(["--processes", "2"]).stderr(Stdio::piped());
    let processes = Processes(vec![program.spawn().unwrap()]);
    run.wait_for_steps(2);
    send(&processes, 0, Signal::TERM);
    let output = ended(processes).remove(0);
    assert_eq!(output.status.code(), Some(143), "{}", message(&output));
    assert_eq!(run.names("checkpoint").len(), 1);
}

/// As torchrun restarts all processes after one was killed.
#[test]
fn a_restart_continues_although_the_output_is_to_be_overwritten() {
    let keys = "max_steps: 40\nsave_steps: 1\nsave_total_limit: 2\nper_device_train_batch_size: 2\n\
                overwrite_output_dir: true\nlr_scheduler_type: cosine";
    let whole = Run::new(keys).succeed_with(2, &[]);
    let run = Run::new(keys);
    let processes = run.launch(2, &[]);
    run.wait_for_steps(3);
    send(&processes, 1, Signal::KILL);
    ended(processes);
    let port = free_port();
    let start = |rank| {
        let mut command = run.rank(rank, 2, port);
        command
            .env("TORCHELASTIC_RESTART_COUNT", "1")
            .spawn()
            .unwrap()
    };
    let outputs = Processes((0..2).map(start).collect()).outputs();
    assert!(outputs.iter().all(|output| output.status.success()));
    let stderr = message(&outputs[0]);
    assert!(stderr.contains("resuming from"), "{stderr}");
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = |run: &Run| fs::read(run.last().join(file)).unwrap();
        assert!(bytes(&run) == bytes(&whole), "{file} differs");
    }
    assert_eq!(run.records(), whole.records());
}
