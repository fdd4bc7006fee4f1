//! The content of bundles, and the checkpoints and folders that are refused.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seeward_export::{export, export_with};
use seeward_models::bundle::Bundle;
use seeward_models::checkpoint::{Checkpoint, Dtype};
use seeward_models::config::Config;
use seeward_models::image::{ImageSettings, PIXELS_VERSION};
use seeward_models::kinds::{InputMode, Precision, Target};
use seeward_models::net::{self, Branch};
use seeward_models::probe::{self, Probe};
use serde_json::json;
use support::{GOLDEN, Tensor, altered, golden, options, reconfigured};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn unchanged(_: &str, tensor: Tensor) -> Option<Tensor> {
    Some(tensor)
}

fn refused(checkpoint: &Path, branch: Branch) -> String {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("bundle");
    let error = export(&options(checkpoint, &output, branch)).unwrap_err();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    error.to_string()
}

#[test]
fn golden_checkpoints_become_bundles() {
    for (name, branch) in GOLDEN {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("bundles/one");
        let summary = export(&options(&golden(name), &output, branch)).unwrap();
        let bundle = Bundle::open(&output).unwrap();
        bundle.verify().unwrap();
        assert_eq!(bundle.vision_graph(), Some(output.join("vision.onnx")));
        assert_eq!(summary.files.len(), bundle.manifest().files.len() + 1);
        let on_disk: u64 = files(&output)
            .values()
            .map(|bytes| bytes.len() as u64)
            .sum();
        assert_eq!(summary.bytes(), on_disk);
    }
}

#[test]
fn every_weight_but_the_output_projection_is_written_once() {
    for (name, branch) in GOLDEN {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("bundle");
        let mut last = None;
        let options = options(&golden(name), &output, branch);
        let summary = export_with(&options, |progress| last = Some(progress)).unwrap();
        let progress = last.unwrap();
        let checkpoint = Checkpoint::open(&golden(name)).unwrap();
        let config = Config::open(&golden(name)).unwrap();
        let needed: Vec<_> = net::parameters(&config, branch)
            .into_iter()
            .filter(|parameter| !parameter.name.contains("lm_head"))
            .collect();
        let bytes: usize = needed
            .iter()
            .map(|p| checkpoint.info(&p.name).unwrap().bytes())
            .sum();
        assert_eq!(summary.tensors, needed.len());
        assert_eq!(
            (progress.written, progress.total),
            (bytes as u64, bytes as u64)
        );
    }
}

#[test]
fn a_bundle_holds_one_branch() {
    let root = tempfile::tempdir().unwrap();
    let of = |branch, name: &str| {
        let output = root.path().join(name);
        export(&options(&golden("qwen2_dual"), &output, branch)).unwrap();
        files(&output)
    };
    let (main, text) = (of(Branch::Main, "main"), of(Branch::TextOnly, "text_only"));
    for graph in ["vision.onnx", "reward.onnx"] {
        assert!(!contains(&main[graph], "bias_reward_model"));
        assert!(contains(&text[graph], "bias_reward_model."));
        let data = format!("{graph}.data");
        assert_eq!(main[&data].len(), text[&data].len());
        assert_ne!(main[&data], text[&data]);
    }
    let mode = |name| {
        Bundle::open(&root.path().join(name))
            .unwrap()
            .manifest()
            .input_mode
    };
    assert_eq!(
        (mode("main"), mode("text_only")),
        (InputMode::Full, InputMode::TextOnly)
    );
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("bundle");
    let options = options(&golden("qwen2"), &output, Branch::Main);
    export(&options).unwrap();
    let first = files(&output);
    export(&options).unwrap();
    assert!(first == files(&output));
}

#[test]
fn half_precision_checkpoints_give_the_weights_that_they_represent() {
    let root = tempfile::tempdir().unwrap();
    let bundle = |name: &str, change: fn(Tensor) -> Tensor| {
        let folder = root.path().join(name);
        let checkpoint = altered("qwen2", &folder, |_, tensor| Some(change(tensor)));
        export(&options(&checkpoint, &folder.join("bundle"), Branch::Main)).unwrap();
        files(&folder.join("bundle"))
    };
    let bf16 = bundle("bf16", |tensor| Tensor {
        bytes: upper_halves(&tensor.bytes).flatten().collect(),
        dtype: Dtype::Bf16,
        ..tensor
    });
    let fp32 = bundle("fp32", |tensor| Tensor {
        bytes: upper_halves(&tensor.bytes)
            .flat_map(|[low, high]| [0, 0, low, high])
            .collect(),
        ..tensor
    });
    for name in [
        "vision.onnx",
        "vision.onnx.data",
        "reward.onnx",
        "reward.onnx.data",
    ] {
        assert!(bf16[name] == fp32[name], "{name}");
    }
}

/// The upper halves of fp32 values: bf16.
fn upper_halves(fp32: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    let elements = fp32.as_chunks::<4>().0.iter();
    elements.map(|&[_, _, low, high]| [low, high])
}

#[test]
fn the_manifest_repeats_the_settings_of_training() {
    let root = tempfile::tempdir().unwrap();
    let checkpoint = altered("qwen2", root.path(), unchanged);
    reconfigured(&checkpoint, |config| {
        config["seeward"] =
            json!({"max_length": 512, "input_mode": "image_only", "literal_special_tokens": true});
    });
    let mut options = options(&checkpoint, &root.path().join("bundle"), Branch::Main);
    export(&options).unwrap();
    let bundle = Bundle::open(&options.output).unwrap();
    let manifest = bundle.manifest();
    assert_eq!(manifest.family, "Qwen2ForCausalLM");
    assert_eq!(
        (manifest.target, manifest.precision),
        (Target::Portable, Precision::Fp32)
    );
    assert_eq!((manifest.opset, manifest.hidden_size), (23, 64));
    assert_eq!((manifest.rope.theta, manifest.rope.head_dim), (1e6, 16));
    assert_eq!(manifest.prompt.template.name(), "Hermes-2");
    assert_eq!(
        (manifest.prompt.tokens_per_tile, manifest.prompt.max_length),
        (4, 512)
    );
    let dynamic = matches!(&manifest.images, ImageSettings::Tiles(tiles) if tiles.dynamic);
    assert!(manifest.prompt.literal_special_tokens && dynamic);
    assert_eq!(manifest.input_mode, InputMode::ImageOnly);
    assert_eq!(manifest.checkpoint, checkpoint.display().to_string());
    assert_eq!(manifest.tokenizer[..2], ["vocab.json", "merges.txt"]);
    options.max_length = Some(100);
    export(&options).unwrap();
    let bundle = Bundle::open(&options.output).unwrap();
    assert_eq!(bundle.manifest().prompt.max_length, 100);
}

/// Adds two probes, the second with a response of many tokens.
fn with_probes(checkpoint: &Path) {
    let probe = |responses: [&str; 2]| Probe {
        prompt: "what is it?".into(),
        images: vec!["probes/0.png".to_owned()],
        responses: responses.map(str::to_owned).to_vec(),
        pixels_version: PIXELS_VERSION,
        rewards: vec![0.0, 1.0],
        text_only_rewards: None,
    };
    let folder = checkpoint.join("probes");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(golden("../images/vqa0.png"), folder.join("0.png")).unwrap();
    let long = "word ".repeat(200);
    probe::write(checkpoint, &[probe(["a", "b"]), probe(["a", &long])]).unwrap();
}

#[test]
fn probes_whose_tokens_another_limit_changes_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    let checkpoint = altered("qwen2", root.path(), unchanged);
    with_probes(&checkpoint);
    // Training with 200 tokens truncates the long one there.
    for (trained, exported, kept) in [
        (4096, None, 2),
        (200, None, 2),
        (200, Some(200), 2),
        (4096, Some(4000), 2),
        (4096, Some(200), 1),
        (200, Some(4096), 1),
        (200, Some(201), 1),
        (4096, Some(3), 0),
    ] {
        reconfigured(&checkpoint, |config| {
            config["seeward"] = json!({"max_length": trained, "input_mode": "full", "literal_special_tokens": false});
        });
        let mut options = options(&checkpoint, &root.path().join("bundle"), Branch::Main);
        options.max_length = exported;
        let summary = export(&options).unwrap();
        let case = format!("trained with {trained}, exported with {exported:?}");
        assert_eq!(
            (summary.probes, summary.skipped_probes),
            (kept, 2 - kept),
            "{case}"
        );
        let bundle = Bundle::open(&options.output).unwrap();
        assert_eq!(bundle.manifest().probes.len(), kept, "{case}");
    }
}

#[test]
fn a_checkpoint_without_the_branch_or_its_head_is_refused() {
    let text = refused(&golden("qwen2"), Branch::TextOnly);
    assert!(text.contains("no text-only branch"), "{text}");
    for (branch, head) in [
        (Branch::Main, "score.weight"),
        (Branch::TextOnly, "bias_reward_model.score.weight"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let headless = |name: &str, tensor| (name != head).then_some(tensor);
        let text = refused(&altered("qwen2_dual", root.path(), headless), branch);
        let expected = format!("no tensor {head}: this checkpoint has no reward head; train it");
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_served_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let checkpoint = altered("qwen2", root.path(), unchanged);
    reconfigured(&checkpoint, |config| config["template"] = json!(null));
    let text = refused(&checkpoint, Branch::Main);
    assert!(
        text.contains("config.json names no conversation template"),
        "{text}"
    );
    reconfigured(&checkpoint, |config| {
        config["template"] = json!("Hermes-2");
        config["seeward"] =
            json!({"max_length": 0, "input_mode": "full", "literal_special_tokens": false});
    });
    let text = refused(&checkpoint, Branch::Main);
    assert!(text.contains("max_length"), "{text}");
    let text = refused(&with_small_vocabulary(root.path()), Branch::Main);
    assert!(
        text.contains("has ids up to 771, the embedding table only 700 rows"),
        "{text}"
    );
}

fn with_small_vocabulary(root: &Path) -> PathBuf {
    let checkpoint = altered("qwen2", root, |name, mut tensor| {
        if name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight") {
            tensor.shape[0] = 700;
            tensor.bytes.truncate(700 * 64 * 4);
        }
        Some(tensor)
    });
    reconfigured(&checkpoint, |config| {
        config["llm_config"]["vocab_size"] = json!(700)
    });
    checkpoint
}

#[test]
fn a_folder_that_is_not_a_bundle_is_never_replaced() {
    let root = tempfile::tempdir().unwrap();
    let checkpoint = altered("qwen2", root.path(), unchanged);
    let text = |output: &Path| {
        let error = export(&options(&checkpoint, output, Branch::Main)).unwrap_err();
        error.to_string()
    };
    assert!(text(&checkpoint).contains("the checkpoint is in this folder"));
    assert!(text(root.path()).contains("the checkpoint is in this folder"));
    let other = root.path().join("photos");
    std::fs::create_dir(&other).unwrap();
    export(&options(&checkpoint, &other, Branch::Main)).unwrap();
    std::fs::remove_file(other.join("reward_model.json")).unwrap();
    assert!(text(&other).contains("found other files (no reward_model.json)"));
}
