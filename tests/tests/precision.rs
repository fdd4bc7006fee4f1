//! Bundles in 16 and 8 bits and for other targets: close to fp32, refused where they cannot run, and never silently wrong.
//!
//! ONNX Runtime's CPU provider runs fp16 in f32 and has no bf16 MatMul, so bf16 is run here for the CPU only, by the runtime's
//! own operators. The CPU can compute a bundle for a GPU; these tests declare it portable.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use seeward_export::{Options as ExportOptions, export};
use seeward_fixture::checkpoint::RandomCheckpoint;
use seeward_models::bundle::MANIFEST_FILE;
use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::config::{Config, HeadChoices, PixelLimits};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::Branch;
use seeward_runtime::{Error, Options, Request, RewardModel};
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Largest difference to fp32, times max(1, |reward|). 3.2e-3 was seen; fp16 has a spacing of 1e-3 at 1, and neutral
/// values instead of any tensor move rewards by 7e-3 or more.
const FP16: f64 = 5e-3;

/// The same in bf16 for the CPU: twice the largest difference of the golden models of all families from the published
/// rewards, 5.9e-2 (`forward`).
const BF16: f64 = 1.2e-1;

/// The same for integers: twice the largest difference of these models over 200 other responses, 1.7e-1.
const INT8: f64 = 3.5e-1;

/// Largest difference between a response's rewards alone and among others in int8, times max(1, |reward|). Sums of
/// integers are exact and each row has its own scale, so that the inputs differ by f32's rounding only; but an input that
/// this moves across the middle between two integers moves by a whole scale. Some of the 5e4 inputs of a conversation do;
/// each moves its reward by about 1e-3 (all of them together, by a third of a scale each, by 7e-2).
const INT8_PACKED: f64 = 1e-2;

/// A bundle of the checkpoint, with its temporary folder.
fn exported(checkpoint: &Path, target: Target, precision: Precision) -> anyhow::Result<TempDir> {
    let output = tempfile::tempdir()?;
    export(&ExportOptions {
        checkpoint: checkpoint.to_owned(),
        output: output.path().to_owned(),
        branch: Branch::Main,
        target,
        precision,
        max_length: None,
        template: None,
        pixels: PixelLimits::default(),
        head: HeadChoices::default(),
    })?;
    Ok(output)
}

fn load(bundle: &TempDir) -> seeward_runtime::Result<RewardModel> {
    RewardModel::load(bundle.path(), Options::default().threads(1))
}

/// Declares the bundle portable in its manifest.
fn relabelled(bundle: TempDir) -> TempDir {
    let path = bundle.path().join(MANIFEST_FILE);
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(&path).expect("manifest")).expect("JSON");
    manifest["target"] = json!("portable");
    fs::write(path, manifest.to_string()).expect("written");
    bundle
}

/// The golden rows of a model.
fn requests(model: &str) -> Vec<Request> {
    let folder = golden::path(&format!("forward/{model}"));
    let text = fs::read_to_string(folder.join("cases.jsonl")).expect("golden cases");
    let request = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let image = row["img_path"].as_str().expect("a path");
        let responses: Vec<String> =
            serde_json::from_value(row["responses"].clone()).expect("responses");
        Request::new(row["prompt"].as_str().expect("a prompt"))
            .image(folder.join(image))
            .responses(responses)
    };
    text.lines().map(request).collect()
}

fn rewards(bundle: &TempDir, requests: &[Request]) -> Vec<f64> {
    let model = load(bundle).expect("loaded");
    let scored = model.score(requests).expect("the engine runs");
    let rewards = scored
        .results
        .into_iter()
        .flat_map(|r| r.expect("scored").rewards);
    rewards.map(f64::from).collect()
}

#[test]
fn every_target_scores_as_portable_fp32_does() {
    for name in ["qwen2", "qwen2_tied"] {
        let (checkpoint, requests) = (golden::path(&format!("models/{name}")), requests(name));
        let portable = exported(&checkpoint, Target::Portable, Precision::Fp32).expect("exported");
        let expected = rewards(&portable, &requests);
        for (target, precision, scale) in [
            (Target::Cpu, Precision::Fp32, 1e-5),
            (Target::Cuda, Precision::Fp32, 1e-5),
            (Target::Tensorrt, Precision::Fp32, 1e-5),
            (Target::Cpu, Precision::Bf16, BF16),
            (Target::Cpu, Precision::Int8, INT8),
            (Target::Portable, Precision::Fp16, FP16),
            (Target::Cuda, Precision::Fp16, FP16),
            (Target::Tensorrt, Precision::Fp16, FP16),
        ] {
            let bundle = exported(&checkpoint, target, precision).expect("exported");
            let bundle = match target {
                Target::Cpu => bundle,
                _ => relabelled(bundle),
            };
            let got = rewards(&bundle, &requests);
            let what = format!("{name} for {target:?} in {precision:?}");
            let mut worst: f64 = 0.0;
            for (got, expected) in got.iter().zip(&expected) {
                let tolerance = Tolerance::reward(scale, *expected);
                assert_close(&what, &[*got], &[*expected], tolerance);
                worst = worst.max((got - expected).abs() / expected.abs().max(1.0));
            }
            println!("{what}: differs by at most {worst:.1e}");
            // A precision with the same bits would be f32 with another name.
            assert!(precision == Precision::Fp32 || got != expected, "{what}");
        }
    }
}

/// Dominant channels are divided out again: what a precision loses by them, it loses of the same rewards.
#[test]
fn outliers_leave_the_rewards_unchanged() {
    let source = golden::path("models/qwen2");
    let [plain, outliers] = [false, true].map(|outliers| {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = RandomCheckpoint {
            config: Config::open(&source).expect("a config"),
            seed: 0,
            dtype: Dtype::F32,
            score_head: true,
            text_only_branch: false,
            outliers,
        };
        let path = folder.path().join("checkpoint");
        checkpoint.write(&path, Some(&source)).expect("written");
        let bundle = exported(&path, Target::Portable, Precision::Fp32).expect("exported");
        (
            fs::read(path.join(WEIGHTS_FILE)).expect("weights"),
            rewards(&bundle, &requests("qwen2")),
        )
    });
    assert_ne!(plain.0, outliers.0);
    let tolerance = Tolerance {
        absolute: 1e-5,
        relative: 0.0,
    };
    assert_close("with outliers", &outliers.1, &plain.1, tolerance);
}

/// InternViT-6B's norms of queries and keys are in f32, its attention is not. 1.5e-2 is the tolerance of a probe in fp16.
#[test]
fn normalised_queries_and_keys_are_as_narrow_as_values() {
    let (checkpoint, requests) = (golden::path("models/vit6b"), requests("vit6b"));
    let [expected, got] = [Precision::Fp32, Precision::Fp16].map(|precision| {
        let bundle = exported(&checkpoint, Target::Portable, precision).expect("exported");
        rewards(&bundle, &requests)
    });
    for (got, expected) in got.iter().zip(&expected) {
        let tolerance = Tolerance::reward(1.5e-2, *expected);
        assert_close("vit6b in fp16", &[*got], &[*expected], tolerance);
    }
    assert_ne!(got, expected);
}

#[test]
fn heads_of_any_size_score_for_the_cpu_as_for_every_device() {
    let (checkpoint, requests) = (golden::path("models/phi3_su"), requests("phi3_su"));
    let [got, expected] = [Target::Cpu, Target::Portable].map(|target| {
        let bundle = exported(&checkpoint, target, Precision::Fp32).expect("exported");
        rewards(&bundle, &requests)
    });
    for (got, expected) in got.iter().zip(expected) {
        assert_close(
            "heads of 12",
            &[*got],
            &[expected],
            Tolerance::reward(1e-5, expected),
        );
    }
}

/// Pairs of a row's responses whose margin in fp32 is above the 10th percentile.
fn clear_pairs(rewards: &[Vec<f64>]) -> Vec<(usize, usize, usize)> {
    let pairs = |row: usize| {
        let count = rewards[row].len();
        (0..count).flat_map(move |b| (0..b).map(move |a| (row, a, b)))
    };
    let margin = |&(row, a, b): &(usize, usize, usize)| (rewards[row][a] - rewards[row][b]).abs();
    let mut pairs: Vec<_> = (0..rewards.len()).flat_map(pairs).collect();
    pairs.sort_by(|a, b| margin(a).total_cmp(&margin(b)));
    pairs.split_off(pairs.len() / 10 + 1)
}

#[test]
fn narrow_layers_decide_clear_pairs_as_fp32_does() {
    for name in ["qwen2", "qwen2_tied", "internlm2", "llama", "phi3", "vit6b"] {
        let (checkpoint, requests) = (golden::path(&format!("models/{name}")), requests(name));
        let by_row = |precision| -> Vec<Vec<f64>> {
            let bundle = exported(&checkpoint, Target::Cpu, precision).expect("exported");
            let row = |request| rewards(&bundle, std::slice::from_ref(request));
            requests.iter().map(row).collect()
        };
        let fp32 = by_row(Precision::Fp32);
        let pairs = clear_pairs(&fp32);
        assert!(pairs.len() >= 10, "{name}: {} pairs", pairs.len());
        for precision in [Precision::Bf16, Precision::Int8] {
            let narrow = by_row(precision);
            for &(row, a, b) in &pairs {
                let margin = |rewards: &[Vec<f64>]| rewards[row][a] - rewards[row][b];
                let margins = (margin(&fp32), margin(&narrow));
                assert!(
                    margins.0 * margins.1 > 0.0,
                    "{name} in {precision:?}, row {row}: {margins:?}"
                );
            }
        }
    }
}

#[test]
fn in_eight_bits_a_response_does_not_depend_on_its_neighbours() {
    let checkpoint = golden::path("models/qwen2");
    let bundle = exported(&checkpoint, Target::Cpu, Precision::Int8).expect("exported");
    let requests = requests("qwen2");
    let alone = requests.iter().flat_map(|request| {
        let responses = request.responses.iter();
        responses.map(|response| {
            let mut alone = request.clone();
            alone.responses = vec![response.clone()];
            alone
        })
    });
    let one = |request: Request| rewards(&bundle, &[request]);
    let alone: Vec<f64> = alone.flat_map(one).collect();
    let together = rewards(&bundle, &requests);
    assert_eq!(together, rewards(&bundle, &requests));
    let mut worst: f64 = 0.0;
    for (got, expected) in together.iter().zip(&alone) {
        let tolerance = Tolerance::reward(INT8_PACKED, *expected);
        assert_close("together", &[*got], &[*expected], tolerance);
        worst = worst.max((got - expected).abs() / expected.abs().max(1.0));
    }
    println!("together and alone: differs by at most {worst:.1e}");
}

#[test]
fn a_weight_that_is_nan_is_not_quantized() {
    for factor in [f32::NAN, f32::INFINITY] {
        let checkpoint = scaled(VALUES, factor);
        let refused = exported(checkpoint.path(), Target::Cpu, Precision::Int8);
        let text = refused.expect_err("refused").to_string();
        assert!(text.starts_with(&format!("tensor {VALUES}: ")), "{text}");
        assert!(text.ends_with("cannot be quantized"), "{text}");
    }
}

#[test]
fn sixteen_bits_take_half_the_space() {
    let data = |precision| {
        let bundle = exported(&golden::path("models/qwen2"), Target::Portable, precision);
        let bundle = bundle.expect("exported");
        fs::metadata(bundle.path().join("reward.onnx.data"))
            .expect("weights")
            .len() as f64
    };
    let (wide, fp16, bf16) = (
        data(Precision::Fp32),
        data(Precision::Fp16),
        data(Precision::Bf16),
    );
    // Norms and gaps are unchanged.
    assert!(fp16 < 0.6 * wide && fp16 == bf16, "{wide} {fp16} {bf16}");
}

#[test]
fn the_cpu_refuses_what_it_cannot_run() {
    for (target, precision, expected) in [
        (
            Target::Cuda,
            Precision::Fp16,
            "device cpu: the bundle is made for cuda",
        ),
        (
            Target::Tensorrt,
            Precision::Fp32,
            "device cpu: the bundle is made for tensorrt",
        ),
        (
            Target::Portable,
            Precision::Bf16,
            "device cpu: the bundle is portable bf16, for which ONNX Runtime's CPU provider has no MatMul",
        ),
    ] {
        let bundle = exported(&golden::path("models/qwen2"), target, precision).expect("exported");
        let text = load(&bundle).err().expect("refused").to_string();
        assert!(text.starts_with(expected), "{text}");
    }
}

/// A copy of the golden checkpoint with one tensor multiplied by a factor.
fn scaled(tensor: &str, factor: f32) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let original = golden::path("models/qwen2");
    for entry in fs::read_dir(&original).expect("a folder") {
        let file = entry.expect("a file");
        fs::copy(file.path(), folder.path().join(file.file_name())).expect("copied");
    }
    let source = Checkpoint::open(&original).expect("a checkpoint");
    let changed = |name: &str| {
        let mut bytes = source.read(name).expect("read");
        if name == tensor {
            let scale =
                |bytes: &mut [u8; 4]| *bytes = (f32::from_le_bytes(*bytes) * factor).to_le_bytes();
            bytes.as_chunks_mut().0.iter_mut().for_each(scale);
        }
        bytes
    };
    let tensors = source.tensors().map(|(name, info)| TensorData {
        name: name.to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: Box::new(move || Cow::Owned(changed(name))),
    });
    write_tensors(&folder.path().join(WEIGHTS_FILE), tensors.collect()).expect("written");
    folder
}

const VALUES: &str = "language_model.model.layers.0.self_attn.v_proj.weight";

#[test]
fn a_weight_outside_fp16_is_named() {
    let checkpoint = scaled(VALUES, 1e9);
    let text = exported(checkpoint.path(), Target::Cuda, Precision::Fp16)
        .expect_err("refused")
        .to_string();
    let expected = format!("tensor {VALUES}: ");
    assert!(
        text.starts_with(&expected) && text.contains("outside fp16's range of ±65504"),
        "{text}"
    );
    exported(checkpoint.path(), Target::Cuda, Precision::Bf16).expect("bf16 has f32's range");
}

#[test]
fn a_norm_outside_fp16_is_not_cast() {
    let checkpoint = scaled("language_model.model.norm.weight", 1e6);
    exported(checkpoint.path(), Target::Portable, Precision::Fp16).expect("norms are f32");
}

#[test]
fn a_model_that_leaves_fp16_gives_errors_and_no_scores() {
    // Every weight fits; the output of the linear layer does not.
    let checkpoint = scaled(VALUES, 1e5);
    let request = &requests("qwen2")[..1];
    let first = |target, precision| {
        let bundle = exported(checkpoint.path(), target, precision).expect("exported");
        let model = load(&bundle).expect("loaded");
        model
            .score(request)
            .expect("the engine runs")
            .results
            .remove(0)
    };
    assert!(first(Target::Portable, Precision::Fp32).is_ok());
    let error = first(Target::Portable, Precision::Fp16).expect_err("refused");
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    assert!(
        error.to_string().contains("in fp16, a value exceeds"),
        "{error}"
    );
}
