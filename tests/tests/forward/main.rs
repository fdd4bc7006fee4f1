//! Rewards against the published implementation, through LibTorch and through ONNX Runtime, alone and packed.
//!
//! Tolerance: 1e-4 · max(1, |reward|). Correct fp32 evaluations of the golden set differ by less than 1e-5 among each
//! other; replacing any one tensor by its neutral value moves rewards by 7e-3 or more.

mod cases;
mod cpu_bf16;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use seeward_export::{Options as ExportOptions, export};
use seeward_fixture::checkpoint::RandomCheckpoint;
use seeward_models::checkpoint::{
    Checkpoint, Dtype, TensorData, TensorInfo, WEIGHTS_FILE, write_tensors,
};
use seeward_models::config::{Config as ModelConfig, HeadChoices, PixelLimits};
use seeward_models::kinds::{InputMode, Precision, Target};
use seeward_models::net::{Branch, SCORE_HEAD};
use seeward_runtime::{Options, Request, RewardModel, Usage};
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden;
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::inputs::Inputs;
use seeward_train::data::preprocess::Preprocessor;
use seeward_train::data::rows::{Row, Rows, Samples};
use seeward_train::model::branch::Model;
use seeward_train::model::setup::Start;
use serde_json::{Map, Value, json};
use tch::Device;

use cases::{Case, all_cases, cases, neighbours, read_cases};

/// Those with golden rewards under other settings.
const OVERRIDDEN: [&str; 2] = ["internlm2", "qwen2"];
const MODES: [(&str, InputMode); 3] = [
    ("full", InputMode::Full),
    ("text_only", InputMode::TextOnly),
    ("image_only", InputMode::ImageOnly),
];

/// A model in LibTorch.
struct LibTorch {
    model: Model,
    preprocessor: Preprocessor,
}

impl LibTorch {
    fn load(name: &str, mode: InputMode, branch: Branch) -> Self {
        let config = Config {
            model_name_or_path: model_folder(name).display().to_string(),
            algorithm: if branch == Branch::TextOnly {
                Algorithm::ShortcutAware
            } else {
                Algorithm::Standard
            },
            use_text_only: mode == InputMode::TextOnly,
            use_image_only: mode == InputMode::ImageOnly,
            max_length: 4096,
            ..Config::default()
        };
        Self::of(&config, branch)
    }

    fn of(config: &Config, branch: Branch) -> Self {
        tch::set_num_threads(1);
        let start = Start::load(config, None, Device::Cpu).expect("golden model");
        let (models, preprocessors) = (start.models, start.preprocessors);
        match branch {
            Branch::Main => Self {
                model: models.main,
                preprocessor: preprocessors.main,
            },
            Branch::TextOnly => Self {
                model: models.text.expect("both"),
                preprocessor: preprocessors.text.expect("both"),
            },
        }
    }

    fn inputs(&self, pairs: &[[&Case; 2]], packed: bool) -> Inputs {
        self.try_inputs(pairs, packed).expect("inputs")
    }

    /// Pairs: each packed into one row, or (as the same image under two names) in two separate rows.
    fn try_inputs(&self, pairs: &[[&Case; 2]], packed: bool) -> seeward_models::Result<Inputs> {
        let line = |[a, b]: &[&Case; 2]| {
            let other_name = b
                .image
                .display()
                .to_string()
                .replace("images/", "images/./");
            let mut row =
                json!({ "prompt": a.prompt, "chosen": a.response, "rejected": b.response });
            if packed {
                row["img_path"] = json!(a.image);
            } else {
                row["chosen_img_path"] = json!(a.image);
                row["rejected_img_path"] = json!(other_name);
            }
            row.to_string()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, pairs.iter().map(line).collect::<Vec<_>>().join("\n")).expect("written");
        let rows = Rows::pairs(&path, None).expect("rows");
        let numbers: Vec<usize> = (0..rows.count()).collect();
        let Samples::Pairs(rows) = rows.read(&numbers).expect("rows") else {
            panic!("pairs")
        };
        self.preprocessor
            .pairs(&rows.iter().collect::<Vec<&Row<_>>>())
    }

    fn rewards(&self, inputs: &Inputs) -> Vec<f64> {
        let rewards = tch::no_grad(|| self.model.rewards(inputs)).expect("rewards");
        Vec::try_from(rewards.to_kind(tch::Kind::Double)).expect("one dimension")
    }
}

fn libtorch_agrees(name: &str, cases: &[Case], torch: &LibTorch) {
    let pairs = neighbours(cases);
    let (packed, separate) = (torch.inputs(&pairs, true), torch.inputs(&pairs, false));
    for (what, inputs) in [("packed", &packed), ("alone", &separate)] {
        for (case, got) in pairs.iter().flatten().zip(torch.rewards(inputs)) {
            case.check(&format!("LibTorch {name} {what}"), got);
        }
    }
    // Scaled by their lengths, neighbours share little.
    if torch.preprocessor.mode != InputMode::TextOnly && torch.preprocessor.rope.scaling.is_none() {
        assert_eq!(
            (packed.forest.rows(), separate.forest.rows()),
            (pairs.len(), 2 * pairs.len()),
            "{name}"
        );
        assert!(
            2 * packed.tiles() == separate.tiles()
                && 10 * packed.forest.used_tokens < 7 * separate.forest.used_tokens,
            "{name}"
        );
    }
}

#[test]
fn libtorch_rewards_are_the_published_ones() {
    for name in &golden::reward_models() {
        for (block, mode) in MODES {
            libtorch_agrees(
                name,
                &cases(name, block, "reward"),
                &LibTorch::load(name, mode, Branch::Main),
            );
        }
    }
    let text = LibTorch::load("qwen2_dual", InputMode::Full, Branch::TextOnly);
    libtorch_agrees(
        "text-only branch",
        &cases("qwen2_dual", "full", "reward_bias_branch"),
        &text,
    );
}

fn model_folder(name: &str) -> PathBuf {
    golden::path(&format!("models/{name}"))
}

fn exported(name: &str, branch: Branch, mode: InputMode) -> RewardModel {
    exported_from(&model_folder(name), branch, mode, None)
}

fn exported_from(
    checkpoint: &Path,
    branch: Branch,
    mode: InputMode,
    max_length: Option<usize>,
) -> RewardModel {
    let portable = (Target::Portable, Precision::Fp32);
    let (_folder, output) = bundle(checkpoint, branch, portable, max_length);
    let options = Options::default().input(mode).threads(1);
    RewardModel::load(&output, options).expect("loaded")
}

/// A bundle's temporary folder and its path.
fn bundle(
    checkpoint: &Path,
    branch: Branch,
    (target, precision): (Target, Precision),
    max_length: Option<usize>,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("bundle");
    let options = ExportOptions {
        checkpoint: checkpoint.to_owned(),
        output: output.clone(),
        branch,
        target,
        precision,
        max_length,
        template: None,
        pixels: PixelLimits::default(),
        head: HeadChoices::default(),
    };
    export(&options).expect("exported");
    (folder, output)
}

fn request(cases: &[&Case]) -> Request {
    Request::new(&cases[0].prompt)
        .image(cases[0].image.as_path())
        .responses(cases.iter().map(|case| &case.response))
}

fn score(model: &RewardModel, requests: &[Request]) -> (Vec<f64>, Usage) {
    let scored = model.score(requests).expect("the engine runs");
    let rewards = scored
        .results
        .into_iter()
        .flat_map(|result| result.expect("a good request").rewards);
    (rewards.map(f64::from).collect(), scored.usage)
}

fn onnx_agrees(name: &str, cases: &[Case], model: &RewardModel) {
    let (rows, usage) = onnx_rewards_agree(name, cases, model);
    let shares = model.bundle().manifest().rope.scaling.is_none();
    assert!(
        !shares || 10 * usage.tokens < 7 * usage.tokens_without_sharing,
        "{name}: {usage:?}"
    );
    assert!(usage.images_encoded <= rows as u64, "{name}: {usage:?}");
}

/// The number of rows, and what scoring them packed took.
fn onnx_rewards_agree(name: &str, cases: &[Case], model: &RewardModel) -> (usize, Usage) {
    let by_row: Vec<Vec<&Case>> = cases
        .chunk_by(|a, b| a.row == b.row)
        .map(|row| row.iter().collect())
        .collect();
    let packed: Vec<Request> = by_row.iter().map(|row| request(row)).collect();
    let (together, usage) = score(model, &packed);
    let alone: Vec<f64> = cases
        .iter()
        .flat_map(|case| score(model, &[request(&[case])]).0)
        .collect();
    for (case, (packed, alone)) in cases.iter().zip(together.iter().zip(&alone)) {
        case.check(&format!("ONNX Runtime {name} packed"), *packed);
        case.check(&format!("ONNX Runtime {name} alone"), *alone);
        assert_close(
            &format!("{name}: packed against alone"),
            &[*packed],
            &[*alone],
            Tolerance::reward(1e-5, *alone),
        );
    }
    (by_row.len(), usage)
}

#[test]
fn exported_rewards_are_the_published_ones() {
    for name in &golden::reward_models() {
        for (block, mode) in MODES {
            onnx_agrees(
                name,
                &cases(name, block, "reward"),
                &exported(name, Branch::Main, mode),
            );
        }
    }
    // The bundle of a text-only branch knows that it sees the white image.
    let text = exported("qwen2_dual", Branch::TextOnly, InputMode::Full);
    onnx_agrees(
        "text-only branch",
        &cases("qwen2_dual", "full", "reward_bias_branch"),
        &text,
    );
}

/// The golden set's other settings: a few rows of a model under each.
#[test]
fn other_settings_give_the_published_rewards() {
    for name in OVERRIDDEN {
        let golden = golden::json(&format!("forward/{name}/golden.json"));
        let overrides = golden["overrides"].as_array().expect("overrides");
        assert_eq!(overrides.len(), 14);
        let mut counted = 0;
        for settings in overrides {
            let cases = read_cases(name, &settings["results"], "reward");
            let mut keys = settings["override"].as_object().expect("keys").clone();
            keys.remove("what");
            let (cut, cases): (Vec<_>, Vec<_>) = cases.into_iter().partition(|c| c.image_cut);
            let (torch, onnx) = (trained_with(name, &keys), exported_with(name, &keys));
            let what = format!("{name} {keys:?}");
            refused(&cut, &torch, &onnx);
            libtorch_agrees(&what, &cases, &torch);
            onnx_rewards_agree(&what, &cases, &onnx);
            counted += cut.len();
        }
        assert!(
            counted > 0,
            "{name}: no conversation is cut inside its image"
        );
    }
}

/// The model in LibTorch, set up as a training run with these keys.
fn trained_with(name: &str, keys: &Map<String, Value>) -> LibTorch {
    let mut run = keys.clone();
    run.entry("max_length").or_insert(json!(4096));
    run.insert("model_name_or_path".into(), json!(model_folder(name)));
    for required in ["dataset_path", "output_dir"] {
        run.insert(required.into(), json!("unused"));
    }
    let text = Value::Object(run).to_string();
    let (config, _) = Config::from_yaml(&text, name, &[]).expect("keys of a run");
    LibTorch::of(&config, Branch::Main)
}

/// The model exported from a checkpoint whose config.json has these keys; the weights are those of the golden one.
fn exported_with(name: &str, keys: &Map<String, Value>) -> RewardModel {
    let folder = tempfile::tempdir().expect("a folder");
    link(&model_folder(name), folder.path());
    let mut config = golden::json(&format!("models/{name}/config.json"));
    for (key, value) in keys.iter().filter(|(key, _)| *key != "max_length") {
        let key = if key == "vision_select_layer" {
            "select_layer"
        } else {
            key
        };
        config[key] = value.clone();
    }
    let path = folder.path().join("config.json");
    fs::remove_file(&path).expect("unlinked");
    fs::write(&path, config.to_string()).expect("written");
    let max_length = keys.get("max_length").and_then(Value::as_u64);
    let max_length = max_length.map(|length| length as usize);
    exported_from(folder.path(), Branch::Main, InputMode::Full, max_length)
}

/// The published code drops embeddings in silence when the cut falls inside the image; here that is an error.
fn refused(cases: &[Case], torch: &LibTorch, onnx: &RewardModel) {
    for case in cases {
        let trained = torch.try_inputs(&[[case, case]], true).err();
        let scored = onnx.score(&[request(&[case])]).expect("the engine runs");
        let scored = scored.results.into_iter().find_map(|result| result.err());
        for message in [
            trained.expect("refused in training").to_string(),
            scored.expect("refused in scoring").to_string(),
        ] {
            assert!(message.contains("image tokens"), "{message}");
        }
    }
}

/// The chat model has no score head: its golden rewards are of one that is easily made.
#[test]
fn a_chat_model_with_a_head_gives_the_published_rewards() {
    let (chat, folder) = ("internlm2_plain", tempfile::tempdir().expect("a folder"));
    link(&model_folder(chat), folder.path());
    let mut weights = Checkpoint::open(&model_folder(chat)).expect("weights");
    let config = ModelConfig::open(&model_folder(chat)).expect("sizes");
    let width = config.text.hidden;
    let last = (width - 1) as f32;
    let head: Vec<f32> = (0..width).map(|j| -1.0 + 2.0 * j as f32 / last).collect();
    weights.insert(SCORE_HEAD, &[1, width], &head);
    write_weights(&weights, folder.path(), Dtype::F32);
    for (block, mode) in MODES {
        let cases = cases(chat, block, "reward");
        let config = Config {
            model_name_or_path: folder.path().display().to_string(),
            use_text_only: mode == InputMode::TextOnly,
            use_image_only: mode == InputMode::ImageOnly,
            max_length: 4096,
            ..Config::default()
        };
        libtorch_agrees(chat, &cases, &LibTorch::of(&config, Branch::Main));
        let exported = exported_from(folder.path(), Branch::Main, mode, None);
        onnx_agrees(chat, &cases, &exported);
    }
}

/// Both engines widen 16-bit weights on disk to the same numbers, near those that they were made from.
#[test]
fn weights_on_disk_may_be_of_16_bits() {
    let cases = cases("qwen2", "full", "reward");
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let folder = tempfile::tempdir().expect("a folder");
        link(&model_folder("qwen2"), folder.path());
        let weights = Checkpoint::open(&model_folder("qwen2")).expect("weights");
        write_weights(&weights, folder.path(), dtype);
        let config = Config {
            model_name_or_path: folder.path().display().to_string(),
            max_length: 4096,
            ..Config::default()
        };
        let torch = LibTorch::of(&config, Branch::Main);
        let onnx = exported_from(folder.path(), Branch::Main, InputMode::Full, None);
        let mut furthest: f64 = 0.0;
        for case in &cases {
            let reward = torch.rewards(&torch.inputs(&[[case, case]], true))[0];
            let served = score(&onnx, &[request(&[case])]).0;
            assert_close(
                "served",
                &served,
                &[reward],
                Tolerance::reward(1e-4, reward),
            );
            furthest = furthest.max((reward - case.reward).abs());
        }
        // Rounding shows, and moves rewards less than a whole run in bf16 does (0.03).
        assert!((1e-5..0.1).contains(&furthest), "{dtype:?}: {furthest}");
    }
}

/// Writes weights in the place of a link.
fn write_weights(weights: &Checkpoint, folder: &Path, dtype: Dtype) {
    let tensor = |(name, info): (&str, &TensorInfo)| {
        let values = weights.read_f32(name).expect("a tensor").into_iter();
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Dtype::F16 => values
                .flat_map(|v| f16::from_f32(v).to_le_bytes())
                .collect(),
            Dtype::Bf16 => values
                .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                .collect(),
        };
        TensorData {
            name: name.to_owned(),
            dtype,
            shape: info.shape.clone(),
            bytes: Box::new(move || Cow::Owned(bytes.clone())),
        }
    };
    let path = folder.join(WEIGHTS_FILE);
    fs::remove_file(&path).expect("unlinked");
    write_tensors(&path, weights.tensors().map(tensor).collect()).expect("written");
}

/// Links every file of a model into another folder.
fn link(model: &Path, folder: &Path) {
    for file in fs::read_dir(model).expect("a model") {
        let file = file.expect("a file");
        let link = folder.join(file.file_name());
        std::os::unix::fs::symlink(file.path(), link).expect("linked");
    }
}

/// The exempt rows: a pad token written in the text is a token like any other, and the reward is read at the last one.
#[test]
fn a_literal_pad_token_moves_no_reward() {
    for name in &golden::reward_models() {
        let mut exempt = all_cases(name, "full", "reward");
        exempt.retain(|case| !case.at_last_token);
        let (torch, onnx) = (
            LibTorch::load(name, InputMode::Full, Branch::Main),
            exported(name, Branch::Main, InputMode::Full),
        );
        for case in &exempt {
            assert!(case.response.contains("<|endoftext|>"), "{case:?}");
            let reward = torch.rewards(&torch.inputs(&[[case, case]], true))[0];
            let exported = score(&onnx, &[request(&[case])]).0;
            assert_close(name, &exported, &[reward], Tolerance::reward(1e-4, reward));
            // The published reward, of a token in the middle of the text, is another one.
            assert!((reward - case.reward).abs() > 1e-3, "{reward} {case:?}");
        }
        // Llama's pad token is in none of the texts.
        assert_eq!(exempt.len(), usize::from(name != "llama"), "{name}");
    }
}

#[test]
fn the_golden_cases_are_all_there() {
    assert_eq!(cases("qwen2", "full", "reward").len(), 17);
    assert!(neighbours(&cases("qwen2", "full", "reward")).len() >= 8);
}
