//! Bundles with something missing, damaged or changed.

use std::fs;
use std::path::{Path, PathBuf};

use seeward_models::bundle::{MANIFEST_FILE, Manifest, write_manifest};

use crate::support::{Bench, assert_exit, copy_folder, golden};

const ROW: &str = "{\"prompt\":\"p\",\"img_path\":\"vqa0.png\",\"responses\":[\"a\"]}\n";

/// A copy of the golden bundle, to be damaged.
struct Damaged {
    bench: Bench,
    folder: PathBuf,
}

impl Damaged {
    fn new() -> Self {
        let bench = Bench::new(ROW);
        let folder = bench.path("bundle");
        copy_folder(&golden("bundles/qwen2"), &folder);
        Self { bench, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file(name)).unwrap();
        change(&mut bytes);
        fs::write(self.file(name), bytes).unwrap();
    }

    /// Flips one bit in the middle of a file; a second call restores it.
    fn flip(&self, name: &str) {
        self.change(name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        });
    }

    /// Writes hashes that match the files.
    fn rehash(&self) {
        let text = fs::read_to_string(self.file(MANIFEST_FILE)).unwrap();
        let mut manifest = Manifest::parse(&text).unwrap();
        manifest.files.clear();
        fs::remove_file(self.file(MANIFEST_FILE)).unwrap();
        write_manifest(&self.folder, manifest).unwrap();
    }

    /// Asserts that nothing is scored or written, and that the message has the bundle and `problem`.
    #[track_caller]
    fn is_refused(&self, problem: &str) {
        let run = self.bench.score_with(&self.folder, "out").output().unwrap();
        assert_exit(
            &run,
            2,
            &format!("error: bundle {}: ", self.folder.display()),
        );
        assert_exit(&run, 2, problem);
        assert_eq!(self.bench.files(), ["bundle", "in.jsonl"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_missing_file_is_named() {
    for name in names(&golden("bundles/qwen2")) {
        let damaged = Damaged::new();
        fs::remove_file(damaged.file(&name)).unwrap();
        damaged.is_refused(&format!(
            "{}: No such file or directory",
            damaged.file(&name).display()
        ));
    }
}

#[test]
fn a_flipped_bit_is_found() {
    let damaged = Damaged::new();
    let small = |name: &String| !name.ends_with(".data") && name != MANIFEST_FILE;
    for name in names(&damaged.folder).iter().filter(|name| small(name)) {
        damaged.flip(name);
        damaged.is_refused(&format!("{name}: expected sha256 "));
        damaged.flip(name);
    }
    // Weights may be large: only --check reads them all.
    for name in ["vision.onnx.data", "reward.onnx.data"] {
        damaged.flip(name);
        let mut command = damaged.bench.score_with(&damaged.folder, "out");
        assert_eq!(command.output().unwrap().status.code(), Some(1));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seeward-score"));
        let check = command.arg("--check").arg("--model").arg(&damaged.folder);
        assert_exit(
            &check.output().unwrap(),
            2,
            &format!("{name}: expected sha256 "),
        );
        damaged.flip(name);
    }
}

#[test]
fn a_damaged_manifest_is_reported() {
    let edit = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from), "{from}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    for (from, to, problem) in [
        (
            "\"opset\"",
            "\"opsett\"",
            "reward_model.json: unknown field `opsett`",
        ),
        (
            "\"format_version\": 1",
            "\"format_version\": 3",
            "expected format_version 1 or 2, got 3",
        ),
        (
            "\"hidden_size\": 64",
            "\"hidden_size\": \"64\"",
            "invalid type: string \"64\", expected usize",
        ),
        (
            "\"max_length\": 4096",
            "\"max_length\": 0",
            "max_length: expected 1 to 16777216, got 0",
        ),
        ("}", "", "reward_model.json: "),
    ] {
        let damaged = Damaged::new();
        damaged.change(MANIFEST_FILE, edit(from, to));
        damaged.is_refused(problem);
    }
}

#[test]
fn a_broken_tokenizer_is_reported() {
    for (tokenizer, problem) in [
        ("no JSON", "vocab.json: expected ident"),
        ("{}", "vocab.json: "),
    ] {
        let damaged = Damaged::new();
        fs::write(damaged.file("vocab.json"), tokenizer).unwrap();
        damaged.rehash();
        damaged.is_refused(problem);
    }
}

#[test]
fn graphs_that_the_engine_cannot_read_are_named() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(1000);
    for (name, rehashed, problem) in [
        ("reward.onnx", true, "reward.onnx: Load model from "),
        ("vision.onnx", true, "vision.onnx: Load model from "),
        // Without hashes: weights are not read to the end at load.
        ("reward.onnx.data", false, "reward.onnx: "),
        ("vision.onnx.data", false, "vision.onnx: "),
    ] {
        let damaged = Damaged::new();
        damaged.change(name, cut);
        if rehashed {
            damaged.rehash();
        }
        damaged.is_refused(problem);
    }
    let damaged = Damaged::new();
    fs::copy(damaged.file("vision.onnx"), damaged.file("reward.onnx")).unwrap();
    damaged.rehash();
    damaged.is_refused("reward.onnx: expected the inputs [\"input_ids\", ");
}

#[test]
fn a_folder_that_is_no_bundle_is_named() {
    let bench = Bench::new(ROW);
    for (model, problem) in [
        ("none", "none/reward_model.json: No such file or directory"),
        ("in.jsonl", "in.jsonl/reward_model.json: Not a directory"),
    ] {
        let run = bench
            .score_with(&bench.path(model), "out")
            .output()
            .unwrap();
        assert_exit(&run, 2, problem);
    }
}
