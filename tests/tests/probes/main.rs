//! Train, export, serve: the probes show that all three compute the same, and that a bundle whose content was changed
//! together with its hashes does not.

mod lossy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use seeward_models::bundle::{Bundle, MANIFEST_FILE, Manifest, write_manifest};
use seeward_tests::golden;
use seeward_tests::program::program;
use serde_json::{Value, json};

/// A trained shortcut-aware checkpoint, its bundle, and the folder that holds them.
struct Trained {
    folder: tempfile::TempDir,
}

fn succeed(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Trained {
    fn new(keys: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = golden::path("models/qwen2").display().to_string();
        let mut config = json!({
            "model_name_or_path": model,
            "bias_model_path": model,
            "dataset_path": golden::path("train/pairwise.jsonl"),
            "output_dir": folder.path().join("run"),
            "max_steps": 3,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "threads": 1,
        });
        for (key, value) in keys.as_object().expect("keys") {
            config[key] = value.clone();
        }
        let path = folder.path().join("config.yaml");
        fs::write(&path, config.to_string()).expect("written");
        succeed(
            &program("seeward-train")
                .arg("--config")
                .arg(path)
                .output()
                .expect("runs"),
        );
        Self { folder }
    }

    fn bundle(&self, branch: &str) -> PathBuf {
        let (output, done) = self.export(branch, &[]);
        succeed(&done);
        output
    }

    fn export(&self, branch: &str, more: &[&str]) -> (PathBuf, Output) {
        let output = self.folder.path().join(branch);
        let mut export = program("seeward-export");
        export
            .arg("--checkpoint")
            .arg(self.folder.path().join("run/checkpoint-last"));
        export.arg("--output").arg(&output);
        let done = export.args(["--branch", branch]).args(more).output();
        (output, done.expect("runs"))
    }
}

fn check(bundle: &Path) -> (Option<i32>, String) {
    let mut score = program("seeward-score");
    let output = score
        .args(["--check", "--model"])
        .arg(bundle)
        .output()
        .expect("runs");
    let said = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    (output.status.code(), said)
}

/// A copy of the bundle with one file changed and all hashes rewritten to match.
fn changed(bundle: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let copy = bundle.with_extension("changed");
    copy_folder(bundle, &copy);
    let mut bytes = fs::read(copy.join(name)).expect(name);
    change(&mut bytes);
    fs::write(copy.join(name), bytes).expect(name);
    rehash(&copy);
    copy
}

fn rehash(bundle: &Path) {
    let path = bundle.join(MANIFEST_FILE);
    let text = fs::read(&path).expect("manifest");
    let mut manifest: Manifest = serde_json::from_slice(&text).expect("manifest");
    manifest.files.clear();
    fs::remove_file(path).expect("manifest");
    write_manifest(bundle, manifest).expect("written");
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copy = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &copy)
        } else {
            fs::copy(&path, copy).map(|_| ()).expect("copied")
        }
    }
}

/// Changes a value inside a JSON file.
fn edit(at: &'static str, value: Value) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        let mut json: Value = serde_json::from_slice(bytes).expect("JSON");
        *json.pointer_mut(at).expect(at) = value;
        *bytes = serde_json::to_vec(&json).expect("JSON");
    }
}

/// Swaps the ids of two frequent letters, so that every English text has other tokens of the same number.
fn swap_letters(bytes: &mut Vec<u8>) {
    let mut vocabulary: Value = serde_json::from_slice(bytes).expect("JSON");
    let (a, b) = (vocabulary["."].clone(), vocabulary["?"].clone());
    (vocabulary["."], vocabulary["?"]) = (b, a);
    *bytes = serde_json::to_vec(&vocabulary).expect("JSON");
}

#[test]
fn a_bundle_computes_the_trained_model_or_reports_it() {
    let trained = Trained::new(&json!({}));
    for branch in ["main", "text_only"] {
        let (code, said) = check(&trained.bundle(branch));
        assert_eq!(code, Some(0), "{branch}: {said}");
    }
    let bundle = trained.bundle("main");
    let manifest = Bundle::open(&bundle).expect("a bundle").manifest().clone();
    assert_eq!(manifest.probes.len(), 8);
    assert!(
        manifest
            .probes
            .iter()
            .all(|probe| probe.rewards.len() == 2 && probe.images.len() == 1)
    );
    let moved = |what: &str, copy: PathBuf| {
        let (code, said) = check(&copy);
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.contains("not as trained"), "{what}: {said}");
    };
    // The last tensor of the reward graph is the score head: its highest byte is sign and exponent.
    moved(
        "a weight",
        changed(&bundle, "reward.onnx.data", |bytes| {
            *bytes.last_mut().expect("weights") ^= 0x80
        }),
    );
    moved(
        "the tokenizer",
        changed(&bundle, "vocab.json", swap_letters),
    );
    moved(
        "the image settings",
        changed(
            &bundle,
            MANIFEST_FILE,
            edit("/images/tiles/max_tiles", json!(1)),
        ),
    );
    moved(
        "the template",
        changed(
            &bundle,
            MANIFEST_FILE,
            edit("/prompt/template", json!("internlm2-chat")),
        ),
    );
    let unhashed = bundle.with_extension("unhashed");
    copy_folder(&bundle, &unhashed);
    let mut weights = fs::read(unhashed.join("reward.onnx.data")).expect("weights");
    weights[0] ^= 1;
    fs::write(unhashed.join("reward.onnx.data"), weights).expect("weights");
    let (code, said) = check(&unhashed);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("reward.onnx.data: expected sha256"), "{said}");
}

/// A limit below the trainer's changes the rewards of the rows that it cuts, although the model is the same.
#[test]
fn probes_that_another_limit_cuts_are_skipped_with_a_notice() {
    let trained = Trained::new(&json!({}));
    let mut counts = Vec::new();
    for limit in ["20", "60", "100", "140", "180", "220"] {
        for branch in ["main", "text_only"] {
            let (bundle, done) = trained.export(branch, &["--max-length", limit]);
            succeed(&done);
            let kept = Bundle::open(&bundle)
                .expect("a bundle")
                .manifest()
                .probes
                .len();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let warning = format!("warning: skipped {} of 8 probes", 8 - kept);
            assert_eq!(
                said.contains(&warning),
                kept < 8,
                "{limit} {branch}: {said}"
            );
            let (code, said) = check(&bundle);
            assert_eq!(
                code,
                Some(if kept > 0 { 0 } else { 2 }),
                "{limit} {branch}: {said}"
            );
            counts.push(kept);
        }
    }
    // All, some and none.
    let some = counts.iter().any(|kept| (1..8).contains(kept));
    assert!(
        some && counts.contains(&0) && counts.contains(&8),
        "{counts:?}"
    );
}

/// The rewards of merged weights, in every engine.
#[test]
fn low_rank_additions_are_served_merged() {
    let trained = Trained::new(&json!({
        "use_llm_lora": true,
        "use_backbone_lora": true,
        "lora_r": 4,
        "bf16": true,
    }));
    for branch in ["main", "text_only"] {
        let (code, said) = check(&trained.bundle(branch));
        assert_eq!(code, Some(0), "{branch}: {said}");
    }
}

#[test]
fn a_bundle_without_probes_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("bundle");
    let mut export = program("seeward-export");
    export
        .arg("--checkpoint")
        .arg(golden::path("models/qwen2"))
        .arg("--output")
        .arg(&output);
    succeed(&export.output().expect("runs"));
    let (code, said) = check(&output);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no probes"), "{said}");
}
