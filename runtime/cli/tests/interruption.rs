//! `seeward-score` killed, interrupted, and run twice at the same time: no work is lost, and the bytes are those of one run.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Bench, ENDINGS, assert_exit};

/// No run here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marsaglia's xorshift: equal seeds give equal numbers.
struct Random(u64);

impl Random {
    /// A value from 0 to below 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Short windows, so that many kills come between two of them: three of four rows are invalid.
fn short_windows(count: usize) -> String {
    let row = |n: usize| match n % 4 {
        1 => format!("{{\"prompt\":\"{n}?\",\"responses\":[\"It is {n}.\"],\"n\":{n}}}\n"),
        _ => format!("no row {n}\n"),
    };
    (0..count).map(row).collect()
}

/// Windows whose time grows with the responses: ten take a quarter of a second.
fn long_windows(count: usize, responses: usize) -> String {
    let response = |n| format!("{n} shapes. ").repeat(10);
    let responses: Vec<String> = (0..responses).map(response).collect();
    let row = |n: usize| {
        let row = serde_json::json!({"prompt": format!("how many, {n}?"), "responses": responses});
        format!("{row}\n")
    };
    (0..count).map(row).collect()
}

fn start(bench: &Bench, output: &str) -> Child {
    let mut command = bench.score(output);
    command.args(["--threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until the run of `output` has started its second window.
fn wait_for_a_window(bench: &Bench, output: &str) {
    let start = Instant::now();
    while windows_done(bench, output) == 0 {
        assert!(start.elapsed() < PATIENCE, "no window is done");
        sleep(Duration::from_millis(1));
    }
}

fn windows_done(bench: &Bench, output: &str) -> u64 {
    let Ok(text) = fs::read_to_string(bench.path(&format!("{output}.progress"))) else {
        return 0;
    };
    let progress: Value = serde_json::from_str(&text).unwrap();
    progress["input"]["lines"].as_u64().unwrap() / 32
}

fn remove(bench: &Bench, output: &str) {
    for ending in ENDINGS {
        fs::remove_file(bench.path(&format!("{output}{ending}"))).unwrap();
    }
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.unwrap().success());
}

/// Kills a run at random moments and resumes it, repeatedly; whenever it finishes, compares it with an uninterrupted run
/// and starts from scratch.
fn survives(kills: usize) {
    let bench = Bench::new(short_windows(1200));
    let begun = Instant::now();
    assert!(start(&bench, "whole").wait().unwrap().code() == Some(1));
    let (mut time, mut random) = (begun.elapsed(), Random(0x5EED));
    let (mut killed, mut finished, mut resumed) = (0, 0, 0);
    while killed < kills {
        resumed += usize::from(windows_done(&bench, "cut") > 0);
        let mut child = start(&bench, "cut");
        sleep(time.mul_f64(random.share()));
        child.kill().unwrap();
        match child.wait().unwrap().code() {
            None => {
                killed += 1;
                time = time.mul_f64(1.05);
            }
            code => {
                assert_eq!(code, Some(1));
                bench.assert_same("cut", "whole");
                finished += 1;
                // The kill came too late: the next ones come earlier.
                time = time.mul_f64(0.8);
                remove(&bench, "cut");
            }
        }
    }
    let last = start(&bench, "cut").wait_with_output().unwrap();
    assert_exit(&last, 1, "900 rows failed");
    bench.assert_same("cut", "whole");
    let leftovers: Vec<_> = bench
        .files()
        .into_iter()
        .filter(|n| n.starts_with('.'))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let counts = format!(
        "{kills} kills, {resumed} runs resumed, {finished} finished, {time:?} uninterrupted"
    );
    println!("{counts}");
    assert!(2 * resumed > kills, "{counts}");
}

#[test]
fn twenty_kills_lose_nothing() {
    survives(20);
}

#[test]
#[ignore = "the long form of the test above: two minutes"]
fn two_hundred_kills_lose_nothing() {
    survives(200);
}

#[test]
fn a_signal_stops_after_a_window_and_the_message_says_how_to_resume() {
    let bench = Bench::new(long_windows(160, 10));
    let whole = start(&bench, "whole").wait_with_output().unwrap();
    assert_exit(&whole, 0, "1600 responses");
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let child = start(&bench, name);
        wait_for_a_window(&bench, name);
        signal(&child, name);
        let stopped = child.wait_with_output().unwrap();
        let message = format!("interrupted by SIG{name}: rerun the same command to resume");
        assert_exit(&stopped, code, &message);
        // The window that was being scored is whole, and not the last.
        let windows = windows_done(&bench, name) as usize;
        assert!((1..5).contains(&windows), "{windows}");
        assert_eq!(bench.json_lines(name).len(), windows * 320);
        assert_eq!(start(&bench, name).wait().unwrap().code(), Some(0));
        bench.assert_same(name, "whole");
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let bench = Bench::new(long_windows(96, 15));
    let child = start(&bench, "out");
    wait_for_a_window(&bench, "out");
    for name in ["INT", "TERM"] {
        sleep(Duration::from_millis(50));
        signal(&child, name);
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(143));
    assert!(ended.stderr.is_empty());
    assert_eq!(windows_done(&bench, "out"), 1);
}

#[test]
fn a_second_run_on_the_same_output_is_refused_while_the_first_lives() {
    let bench = Bench::new(long_windows(96, 15));
    let mut first = start(&bench, "out");
    wait_for_a_window(&bench, "out");
    let second = bench.run("out", &["--no-resume"]);
    assert_exit(&second, 2, "out: another run is writing it");
    assert_eq!(first.try_wait().unwrap(), None, "the first run is over");
    // A run that was killed leaves no lock.
    first.kill().unwrap();
    first.wait().unwrap();
    let third = start(&bench, "out").wait_with_output().unwrap();
    assert_exit(&third, 0, "");
    assert_eq!(start(&bench, "whole").wait().unwrap().code(), Some(0));
    bench.assert_same("out", "whole");
}
