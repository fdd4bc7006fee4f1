//! `seeward-score` as it is typed: rows in, rows out, errors, resume, exit codes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn golden(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    root.canonicalize().unwrap().join(path)
}

/// A folder with an input and the outputs of runs over it.
struct Bench(TempDir);

impl Bench {
    fn new(rows: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.path("in.jsonl"), rows).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn run(&self, output: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_seeward-score"))
            .args(["--image-root", golden("images").to_str().unwrap()])
            .args(["--model", golden("bundles/qwen2").to_str().unwrap()])
            .arg("--input")
            .arg(self.path("in.jsonl"))
            .arg("--output")
            .arg(self.path(output))
            .args(more)
            .output()
            .unwrap()
    }
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(message), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// So many rows, of which some are bad, with two responses each.
fn rows(count: usize) -> String {
    let row = |n: usize| match n % 10 {
        3 => "\n".to_owned(),
        7 => "no row\n".to_owned(),
        _ => format!(
            "{{\"prompt\":\"what is in {n}?\",\"img_path\":\"vqa{}.png\",\"responses\":[\"a shape\",\"{n}\"],\"n\":{n}}}\n",
            n % 2
        ),
    };
    (0..count).map(row).collect()
}

#[test]
fn rows_keep_their_order_and_bad_ones_are_reported() {
    let bench = Bench::new(concat!(
        "{\"n\":1.50,\"prompt\":\"p\",\"img_path\":\"vqa0.png\",\"responses\":[\"a\",\"b\"]}\n",
        "\n",
        "{\"prompt\":\"p\",\"img_path\":\"none.png\",\"responses\":[\"a\"]}\n",
        "{\"prompt\":\"p\",\"img_path\":\"../images/vqa0.png\",\"responses\":[\"a\"]}\n",
        "{\"prompt\":\"p\",\"responses\":[]}\n",
        "{\"prompt\":\"p\",\"responses\":[\"c\"],\"score\":1}\n",
        "{\"prompt\":\"p\",\"responses\":[\"c\"]}",
    ));
    let stats = bench.path("stats.json");
    let run = bench.run("out", &["--stats", stats.to_str().unwrap()]);
    assert_exit(&run, 1, "4 rows failed");
    let lines = bench.json_lines("out");
    let responses: Vec<_> = lines.iter().map(|line| line["response"].as_str()).collect();
    assert_eq!(responses, [Some("a"), Some("b"), Some("c")]);
    assert!(
        bench
            .read("out")
            .lines()
            .next()
            .unwrap()
            .ends_with(",\"n\":1.50}")
    );
    let errors = bench.json_lines("out.errors");
    let numbers: Vec<_> = errors
        .iter()
        .map(|error| error["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [3, 4, 5, 6]);
    assert!(
        errors[1]["error"]
            .as_str()
            .unwrap()
            .contains("--allow-outside-root")
    );
    let stats: Value = serde_json::from_str(&bench.read("stats.json")).unwrap();
    let count = |key: &str| stats[key].as_u64().unwrap();
    assert_eq!(
        (count("rows"), count("responses"), count("errors")),
        (6, 3, 4)
    );
    assert_eq!((count("images_encoded"), count("tiles")), (1, 1));
    assert!(count("tokens") < count("tokens_without_sharing"));
    let busy = stats["engine_busy"].as_f64().unwrap();
    assert!(busy > 0.0 && busy < 1.0, "{busy}");
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    // Windows are 32 rows and a tenth of these lines is blank, so that the first 71 are two windows.
    let (whole, part) = (rows(150), rows(71));
    let bench = Bench::new(&whole);
    assert_exit(&bench.run("whole", &[]), 1, "15 rows failed");
    fs::write(bench.path("in.jsonl"), &part).unwrap();
    assert_eq!(bench.run("cut", &[]).status.code(), Some(1));
    assert!(bench.read("cut").len() < bench.read("whole").len());
    for file in ["cut", "cut.errors"] {
        fs::write(bench.path(file), bench.read(file) + "{\"half a li").unwrap();
    }
    fs::write(bench.path("in.jsonl"), &whole).unwrap();
    assert_exit(&bench.run("cut", &["--threads", "1"]), 1, "15 rows failed");
    for (cut, whole) in [
        ("cut", "whole"),
        ("cut.errors", "whole.errors"),
        ("cut.progress", "whole.progress"),
    ] {
        assert_eq!(bench.read(cut), bench.read(whole), "{cut}");
    }
    assert_exit(&bench.run("cut", &[]), 1, "0 rows, 0 responses");
}

#[test]
fn what_cannot_go_on_is_refused() {
    let bench = Bench::new(&rows(3));
    assert_exit(&bench.run("out", &[]), 0, "");
    let before = bench.read("out");
    assert_exit(&bench.run("out", &["--text-only"]), 2, "input_mode was");
    assert_exit(
        &bench.run("out", &["--batch-tokens", "9"]),
        2,
        "batch_tokens was",
    );
    fs::write(bench.path("in.jsonl"), "x").unwrap();
    assert_exit(&bench.run("out", &[]), 2, "the input has changed");
    assert_eq!(bench.read("out"), before);
    fs::write(bench.path("in.jsonl"), rows(2)).unwrap();
    assert_exit(
        &bench.run("out", &["--no-resume", "--text-only"]),
        0,
        "4 responses",
    );
    assert_eq!(bench.json_lines("out").len(), 4);
}

#[test]
fn what_cannot_run_writes_nothing() {
    let bench = Bench::new(&rows(3));
    for (arguments, message) in [
        (["--device", "cuda:1000"], "device cuda:1000: "),
        (["--device", "gpu"], "expected cpu, cuda[:N]"),
        (["--threads", "0"], "threads: expected at least 1"),
        (["--text-only", "--image-only"], "cannot be used with"),
    ] {
        assert_exit(&bench.run("out", &arguments), 2, message);
    }
    let files = fs::read_dir(bench.0.path()).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn a_bundle_without_probes_says_so() {
    let check = Command::new(env!("CARGO_BIN_EXE_seeward-score"))
        .args([
            "--check",
            "--model",
            golden("bundles/qwen2").to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert_exit(&check, 2, "no probes");
}
