//! Runs of the programs in a temporary folder, with the golden bundle and images.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn golden(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    root.canonicalize().unwrap().join(path)
}

/// Endings of the files that a run leaves.
pub(crate) const ENDINGS: [&str; 3] = ["", ".errors", ".progress"];

/// A folder with an input and the outputs of runs over it.
pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new(rows: impl AsRef<[u8]>) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.path("in.jsonl"), rows).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Line and message of every row in the errors file of `output`.
    pub(crate) fn errors(&self, output: &str) -> Vec<(u64, String)> {
        let errors = self.json_lines(&format!("{output}.errors"));
        let error = |error: &Value| {
            let message = error["error"].as_str().unwrap().to_owned();
            (error["line"].as_u64().unwrap(), message)
        };
        errors.iter().map(error).collect()
    }

    /// The names in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// `seeward-score` of the input with the bundle in `model`.
    pub(crate) fn score_with(&self, model: &Path, output: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
        command.arg("--model").arg(model);
        command.arg("--input").arg(self.path("in.jsonl"));
        command.arg("--output").arg(self.path(output));
        command
    }

    /// `seeward-score` of the input, whose images are in the input's folder.
    pub(crate) fn score(&self, output: &str) -> Command {
        self.score_with(&golden("bundles/qwen2"), output)
    }

    /// Runs `seeward-score` with the golden images as its image root.
    pub(crate) fn run(&self, output: &str, more: &[&str]) -> Output {
        let mut command = self.score(output);
        command.arg("--image-root").arg(golden("images")).args(more);
        command.output().unwrap()
    }

    /// Asserts that all three files of two runs are equal, byte for byte.
    #[track_caller]
    pub(crate) fn assert_same(&self, got: &str, expected: &str) {
        for ending in ENDINGS {
            let [got, expected] = [got, expected].map(|output| format!("{output}{ending}"));
            assert!(
                self.read(&got) == self.read(&expected),
                "{got} differs from {expected}"
            );
        }
    }
}

/// Asserts the exit code, a part of stderr, and an empty stdout.
#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        stderr.contains(message),
        "expected {message:?} in:\n{stderr}"
    );
    assert!(output.stdout.is_empty());
}

/// `count` lines, a tenth of them blank and a tenth invalid; the others have two responses.
pub(crate) fn rows(count: usize) -> String {
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

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
