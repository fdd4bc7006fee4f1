//! `--shard` and `--merge`: any number of shards, killed or not, leave the files of one run.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Bench, assert_exit};

/// Rows whose windows of 32 begin and end with a bad one, with blank lines between them and line ends of both kinds; no
/// line end at the end.
fn bordered(count: usize) -> String {
    let row = |n: usize| match n % 32 {
        0 => "\r\nno row\n".to_owned(),
        31 => "no row\r\n\n".to_owned(),
        1 => format!("{{\"prompt\":\"{n}?\",\"responses\":[\"a\",\"b\"],\"n\":{n}}}\r\n"),
        _ => format!("{{\"prompt\":\"{n}?\",\"responses\":[],\"n\":{n}}}\n"),
    };
    let rows: String = (0..count).map(row).collect();
    rows + "{\"prompt\":\"last\",\"responses\":[\"a\"]}"
}

fn run(bench: &Bench, shard: &str) -> Command {
    let mut command = bench.score("out");
    command.args(["--threads", "1", "--shard", shard]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn merge(bench: &Bench, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
    command.args(["--merge", "--output"]).arg(bench.path("out"));
    command.args(more).output().unwrap()
}

fn whole(bench: &Bench) -> Output {
    let mut command = bench.score("whole");
    command.args(["--threads", "1"]).output().unwrap()
}

/// Removes what runs of `out` left.
fn clear(bench: &Bench) {
    let files = bench.files().into_iter();
    for name in files.filter(|name| name.starts_with("out")) {
        fs::remove_file(bench.path(&name)).unwrap();
    }
}

#[test]
fn any_number_of_shards_merges_to_the_files_of_one_run() {
    let bench = Bench::new(bordered(32 * 6 + 5));
    assert_exit(&whole(&bench), 1, "190 rows failed");
    for count in 1..=9 {
        let shards = (0..count).map(|index| run(&bench, &format!("{index}/{count}")).spawn());
        let shards: Vec<Child> = shards.map(|shard| shard.unwrap()).collect();
        for shard in shards {
            let shard = shard.wait_with_output().unwrap();
            // A shard without rows has none that failed.
            let code = shard.status.code();
            assert!(
                code == Some(1) || (count > 7 && code == Some(0)),
                "{shard:?}"
            );
        }
        assert_exit(&merge(&bench, &[]), 1, "190 rows failed: ");
        bench.assert_same("out", "whole");
        // Merging again changes nothing, and one run would have nothing left to do.
        assert_exit(
            &merge(&bench, &[]),
            1,
            &format!("merged from {count} shards"),
        );
        let resumed = bench.score("out").args(["--threads", "1"]).output();
        assert_exit(&resumed.unwrap(), 1, "190 rows failed");
        bench.assert_same("out", "whole");
        clear(&bench);
    }
}

/// Marsaglia's xorshift: equal seeds give equal numbers.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn killed_shards_resume_to_the_files_of_one_run() {
    let bench = Bench::new(bordered(32 * 40));
    let begun = Instant::now();
    assert_exit(&whole(&bench), 1, "1240 rows failed");
    let (time, mut state, mut resumed) = (begun.elapsed(), 0x5EED, 0);
    for index in 0..3 {
        let shard = format!("{index}/3");
        for _ in 0..6 {
            let mut child = run(&bench, &shard).spawn().unwrap();
            sleep(time.mul_f64(random(&mut state)));
            child.kill().unwrap();
            child.wait().unwrap();
            let progress = bench.path(&format!("out.shard-{index}-of-3.progress"));
            resumed += usize::from(progress.exists());
        }
        let last = run(&bench, &shard).output().unwrap();
        assert_eq!(last.status.code(), Some(1), "{last:?}");
    }
    assert!(
        resumed > 3,
        "{resumed} of 18 kills came after the start, in {time:?}"
    );
    // A merge that is killed is repeated.
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
    command.args(["--merge", "--output"]).arg(bench.path("out"));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    sleep(Duration::from_millis(3));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_exit(&merge(&bench, &[]), 1, "merged from 3 shards");
    bench.assert_same("out", "whole");
}

fn edit(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_str(&bench.read(name)).unwrap();
    change(&mut json);
    fs::write(bench.path(name), json.to_string()).unwrap();
}

fn shard(bench: &Bench, shard: &str, more: &[&str]) {
    let run = run(bench, shard).args(more).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
}

#[test]
fn shards_that_do_not_belong_together_are_not_merged() {
    let bench = Bench::new(bordered(64));
    let refused = |message: &str| assert_exit(&merge(&bench, &[]), 2, message);
    refused("out: no shards: expected files out.shard-I-of-N");
    shard(&bench, "0/2", &[]);
    refused("out.shard-1-of-2: no such shard: run it with --shard 1/2");
    shard(&bench, "1/2", &["--batch-tokens", "512"]);
    refused("out: shard 1 is of another run than shard 0: batch_tokens was 6144 and is 512");
    shard(&bench, "1/2", &["--no-resume"]);
    const SECOND: &str = "out.shard-1-of-2.progress";
    edit(&bench, SECOND, |p| p["options"]["cpu"] = "avx".into());
    refused("shard 1 is of another run than shard 0: cpu was ");
    // A shard does not resume on another CPU either.
    let resumed = run(&bench, "1/2").output().unwrap();
    assert_exit(&resumed, 2, "cannot resume: cpu was \"avx\" and is ");
    shard(&bench, "1/2", &["--no-resume"]);
    edit(&bench, SECOND, |p| p["input"]["offset"] = 0.into());
    refused("out.shard-1-of-2: not complete: run it with --shard 1/2 again");
    fs::write(bench.path("in.jsonl"), bordered(65)).unwrap();
    shard(&bench, "1/2", &["--no-resume"]);
    refused("shard 1 is of another run than shard 0: the input has changed");
    let resumed = run(&bench, "0/2").output().unwrap();
    assert_exit(&resumed, 2, "cannot resume: shard was ");
    shard(&bench, "0/2", &["--no-resume"]);
    assert_exit(&merge(&bench, &[]), 1, "rows failed: ");
    shard(&bench, "0/3", &[]);
    refused("out: shards of 2 and of 3: remove those that are not wanted");
}

#[test]
fn files_of_another_run_are_replaced_on_request() {
    let bench = Bench::new(bordered(40));
    let other = bench.score("out").args(["--batch-tokens", "512"]).output();
    assert_eq!(other.unwrap().status.code(), Some(1));
    shard(&bench, "0/1", &[]);
    let exists = "out: exists, written by another run (--no-resume replaces it)";
    assert_exit(&merge(&bench, &[]), 2, exists);
    assert_exit(&merge(&bench, &["--no-resume"]), 1, "merged from 1 shards");
    assert_exit(&whole(&bench), 1, "rows failed");
    bench.assert_same("out", "whole");
}

#[test]
fn a_run_resumes_on_another_cpu_with_a_notice() {
    let bench = Bench::new(bordered(40));
    assert_exit(&whole(&bench), 1, "rows failed");
    edit(&bench, "whole.progress", |p| {
        p["options"]["cpu"] = "avx".into()
    });
    let notice =
        "notice: rows before and after may differ in their last digits: cpu was \"avx\" and is ";
    assert_exit(&whole(&bench), 1, notice);
}

#[test]
fn a_shard_needs_files() {
    let bench = Bench::new(bordered(3));
    let mut command = bench.score("out");
    command.args(["--shard", "2/2"]);
    assert_exit(
        &command.output().unwrap(),
        2,
        "expected I/N with I from 0 to N - 1",
    );
    let input = bench.path("in.jsonl");
    for (input, output, problem) in [
        (
            input.to_str().unwrap(),
            "-",
            "--shard: -: expected a file as --output, which --merge joins",
        ),
        (
            "-",
            "out",
            "--shard: -: expected a file, which is read twice",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
        command.arg("--model").arg(support::golden("bundles/qwen2"));
        command.args(["--input", input, "--output", output, "--shard", "0/2"]);
        command.current_dir(bench.path("")).stdin(Stdio::null());
        assert_exit(&command.output().unwrap(), 2, problem);
    }
}
