//! Where rows come from and where scores go: compressed files, arrays, pipes and standard output give what plain files do.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Bench, assert_exit, golden, rows};

/// The rows that can be scored, as JSON values.
fn good(count: usize) -> Vec<Value> {
    let parsed = rows(count);
    let parsed = parsed
        .lines()
        .filter_map(|row| serde_json::from_str(row).ok());
    parsed.collect()
}

/// Runs `sh -c script` in the folder of `bench` with the words of `command` as "$@".
fn shell(bench: &Bench, script: &str, command: &Command) -> Output {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script, "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(bench.path("")).output().unwrap()
}

/// `seeward-score` without `--input` and `--output`, images in the golden folder.
fn score() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
    command.arg("--model").arg(golden("bundles/qwen2"));
    command.arg("--image-root").arg(golden("images"));
    command
}

#[test]
fn every_form_of_a_file_has_the_same_scores() {
    let rows = good(40);
    let bench = Bench::new(
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>(),
    );
    assert_exit(&bench.run("plain", &[]), 0, "");
    fs::write(
        bench.path("pretty.json"),
        serde_json::to_string_pretty(&rows).unwrap(),
    )
    .unwrap();
    const SCRIPT: &str = r#"
gzip -nk in.jsonl
gzip -nk pretty.json
"$@" --input in.jsonl.gz --output gzip
"$@" --input pretty.json --output array
"$@" --input pretty.json.gz --output both
cat in.jsonl | "$@" --input - --output dash
cat in.jsonl.gz | "$@" --input /dev/stdin --output stdin
"$@" --input <(cat in.jsonl) --output process
"$@" --input - --output stdin-file < in.jsonl
"#;
    let run = shell(&bench, SCRIPT, &score());
    assert_exit(&run, 0, "");
    for output in [
        "gzip",
        "array",
        "both",
        "dash",
        "stdin",
        "process",
        "stdin-file",
    ] {
        assert!(
            bench.read(output) == bench.read("plain"),
            "{output} differs"
        );
    }
}

#[test]
fn a_pipe_resumes() {
    let bench = Bench::new(rows(71));
    assert_exit(&bench.run("whole", &[]), 1, "");
    let piped = |rows: String| {
        let mut command = score();
        command
            .args(["--input", "-", "--output"])
            .arg(bench.path("cut"));
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(rows.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    assert_exit(&piped(rows(40)), 1, "4 rows failed");
    assert_exit(&piped(rows(71)), 1, "7 rows failed");
    for ending in ["", ".errors"] {
        let [cut, whole] = ["cut", "whole"].map(|name| bench.read(&format!("{name}{ending}")));
        assert_eq!(cut, whole);
    }
    assert_exit(
        &piped(rows(71).replace("vqa0", "vqa1")),
        2,
        "the input has changed",
    );
}

#[test]
fn standard_output_gets_the_lines_alone() {
    let bench = Bench::new(rows(10));
    assert_exit(&bench.run("out", &[]), 1, "");
    for output in ["-", "/dev/stdout"] {
        let mut command = score();
        command.arg("--input").arg(bench.path("in.jsonl"));
        command.args(["--output", output]);
        let redirected = File::create(bench.path("redirected")).unwrap();
        let run = command.stdout(redirected).output().unwrap();
        assert_exit(&run, 1, "{\"line\":8,\"error\":\"not JSON");
        assert_eq!(bench.read("redirected"), bench.read("out"));
        fs::remove_file(bench.path("redirected")).unwrap();
        let piped = command.stdout(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8(piped.stdout).unwrap(), bench.read("out"));
        assert!(!String::from_utf8(piped.stderr).unwrap().contains(".errors"));
    }
    let expected = ["in.jsonl", "out", "out.errors", "out.progress"];
    assert_eq!(bench.files(), expected);
}

#[test]
fn a_file_without_rows_is_one_error_and_scores_nothing() {
    for (content, message) in [
        (&b"PAR1\0\0"[..], "got a Parquet file"),
        (b"\xff\xfe{\0", "got text in UTF-16: convert it with iconv"),
        (
            b"prompt,responses\np,r\n",
            "got a table with a heading (CSV)",
        ),
    ] {
        let bench = Bench::new(content);
        let run = bench.run("out", &[]);
        assert_exit(&run, 2, message);
        assert!(run.stderr.iter().filter(|&&byte| byte == b'\n').count() == 1);
        assert!(
            bench.files().iter().all(|name| name != "out"),
            "{:?}",
            bench.files()
        );
    }
}

#[test]
fn evaluation_reads_what_scoring_reads() {
    let pair =
        |n: usize| format!("{{\"prompt\":\"{n}?\",\"chosen\":\"a {n}\",\"rejected\":\"b\"}}\n");
    let bench = Bench::new((0..6).map(pair).collect::<String>() + "no row\n");
    const SCRIPT: &str = r#"
gzip -nk in.jsonl
status=0
"$@" --data x=in.jsonl --output plain || status=$?
"$@" --data x=in.jsonl.gz --output gzip || status=$status$?
cat in.jsonl.gz | "$@" --data x=- --output pipe || status=$status$?
echo $status > status
"#;
    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_seeward-evaluate"));
    evaluate.arg("--model").arg(golden("bundles/qwen2"));
    let run = shell(&bench, SCRIPT, &evaluate);
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert_eq!(bench.read("status"), "111\n", "{stderr}");
    for place in ["in.jsonl:7: ", "in.jsonl.gz:7: ", " -:7: "] {
        assert!(stderr.contains(place), "{stderr}");
    }
    let report = |name: &str| {
        let text = bench.read(&format!("{name}/report.json"));
        let report: Value = serde_json::from_str(&text).unwrap();
        report["sets"]["x"]["accuracy"].clone()
    };
    assert!(report("plain").is_number());
    assert_eq!(report("gzip"), report("plain"));
    assert_eq!(report("pipe"), report("plain"));
}
