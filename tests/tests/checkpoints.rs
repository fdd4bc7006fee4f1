//! Checkpoints through the programs: training writes the names, shapes and configuration that it read, and the result
//! can be trained further, exported and checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seeward_models::bundle::Bundle;
use seeward_models::checkpoint::{Checkpoint, TensorData, TensorInfo, WEIGHTS_FILE, write_tensors};
use seeward_models::config::Config;
use seeward_models::image::ImageSettings;
use seeward_models::net::{self, SCORE_HEAD};
use seeward_tests::golden;
use seeward_tests::program::program;
use serde_json::{Value, json};

/// A run of one step, and its folder.
struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    fn new(model: &Path, keys: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = json!({
            "model_name_or_path": model,
            "dataset_path": golden::path("train/pairwise.jsonl"),
            "output_dir": folder.path().join("run"),
            "max_steps": 1,
            "max_length": 4096,
            "warmup_steps": 0,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "threads": 1,
        });
        for (key, value) in keys.as_object().expect("keys") {
            config[key] = value.clone();
        }
        let path = folder.path().join("config.yaml");
        fs::write(path, config.to_string()).expect("written");
        Self { folder }
    }

    fn train(&self) -> Output {
        let config = self.folder.path().join("config.yaml");
        let mut command = program("seeward-train");
        run(command.arg("--config").arg(config))
    }

    fn trained(model: &Path, keys: Value) -> Self {
        let run = Self::new(model, keys);
        succeeded(&run.train());
        run
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.path().join("run/checkpoint-last")
    }

    /// Both bundles hold the measures of the last evaluation.
    fn check_reward_scales(&self, main: &Bundle, text_only: &Bundle) {
        let metrics = fs::read_to_string(self.folder.path().join("run/metrics.jsonl"));
        let metrics = metrics.expect("metrics");
        let last = metrics.lines().rfind(|line| line.contains("\"eval\""));
        let last: Value = serde_json::from_str(last.expect("an evaluation")).expect("JSON");
        for (bundle, suffix) in [(main, ""), (text_only, "_text")] {
            let measured = |what: &str| last["eval"]["dev"][format!("{what}{suffix}")].as_f64();
            let manifest = bundle.manifest();
            assert!(manifest.reward_std.expect("measured") > 0.0);
            assert_eq!(manifest.reward_mean, measured("reward_mean"));
            assert_eq!(manifest.reward_std, measured("reward_std"));
        }
    }

    /// Exports a branch and recomputes its probes.
    fn check(&self, branch: &str) {
        let bundle = self.folder.path().join(branch);
        succeeded(&export(&self.checkpoint(), &bundle, branch));
        let mut score = program("seeward-score");
        succeeded(&run(score.args(["--check", "--model"]).arg(bundle)));
    }
}

fn run(command: &mut Command) -> Output {
    command.output().expect("runs")
}

fn export(checkpoint: &Path, bundle: &Path, branch: &str) -> Output {
    let mut export = program("seeward-export");
    export.arg("--checkpoint").arg(checkpoint);
    run(export
        .arg("--output")
        .arg(bundle)
        .args(["--branch", branch]))
}

fn succeeded(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// The message of a program that refused.
fn refused(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

fn model_folder(name: &str) -> PathBuf {
    golden::path(&format!("models/{name}"))
}

fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
    let tensors = checkpoint.tensors();
    tensors
        .map(|(name, info)| (name.to_owned(), info.shape.clone()))
        .collect()
}

fn config_json(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("config.json")).expect("a configuration");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_trained_checkpoint_has_the_names_shapes_and_configuration_of_its_source() {
    let mut models = golden::reward_models();
    // Standard training keeps one of its two branches.
    models.retain(|model| model != "qwen2_dual");
    for model in &models {
        let run = Run::trained(&model_folder(model), json!({}));
        let (before, after) = (model_folder(model), run.checkpoint());
        assert_eq!(shapes(&after), shapes(&before), "{model}");
        let mut config = config_json(&after);
        // Only the settings that serving must repeat are added.
        assert!(
            config
                .as_object_mut()
                .expect("keys")
                .remove("seeward")
                .is_some()
        );
        assert_eq!(config, config_json(&before), "{model}");
        run.check("main");
    }
}

#[test]
fn a_text_only_branch_of_another_architecture_travels_with_its_configuration() {
    let keys = json!({
        "algorithm": "shortcut_aware",
        "bias_model_path": model_folder("qwen2_tied"),
        "save_steps": 1,
        "max_steps": 2,
    });
    let run = Run::trained(&model_folder("qwen2"), keys);
    let config = Config::open(&run.checkpoint()).expect("a configuration");
    let text_only = config.text_only_branch().expect("its own");
    assert_eq!((config.text.hidden, text_only.text.hidden), (64, 48));
    let of_both = shapes(&run.checkpoint());
    for (name, shape) in shapes(&model_folder("qwen2_tied")) {
        let name = format!("bias_reward_model.{name}");
        assert_eq!(of_both.get(&name), Some(&shape), "{name}");
    }
    run.check("main");
    run.check("text_only");
    // As if the run had been stopped after its first step.
    fs::remove_dir_all(run.checkpoint()).expect("removed");
    succeeded(&run.train());
    assert_eq!(shapes(&run.checkpoint()), of_both);
}

#[test]
fn a_text_only_branch_may_lack_vision_and_layers() {
    let keys = json!({
        "algorithm": "shortcut_aware",
        "bias_model_path": model_folder("qwen2"),
        "text_branch_vision": false,
        "text_branch_layers": 1,
        "eval_data": { "dev": golden::path("train/pairwise.jsonl") },
        "save_steps": 1,
        "max_steps": 2,
    });
    let run = Run::trained(&model_folder("qwen2"), keys);
    let config = Config::open(&run.checkpoint()).expect("a configuration");
    let text_only = config.text_only_branch().expect("its own");
    assert_eq!((&text_only.vision, text_only.text.layers), (&None, 1));
    let of_both = shapes(&run.checkpoint());
    let of_text = of_both
        .keys()
        .filter_map(|name| name.strip_prefix("bias_reward_model."));
    let of_text: Vec<&str> = of_text.collect();
    assert!(of_text.contains(&"language_model.model.layers.0.mlp.up_proj.weight"));
    for part in ["vision_model.", "mlp1.", "language_model.model.layers.1."] {
        assert!(!of_text.iter().any(|name| name.starts_with(part)), "{part}");
    }
    run.check("main");
    run.check("text_only");
    let bundle = |branch: &str| Bundle::open(&run.folder.path().join(branch)).expect("a bundle");
    let (main, text_only) = (bundle("main"), bundle("text_only"));
    assert!(main.vision_graph().is_some() && text_only.vision_graph().is_none());
    run.check_reward_scales(&main, &text_only);
    // As if the run had been stopped after its first step.
    fs::remove_dir_all(run.checkpoint()).expect("removed");
    succeeded(&run.train());
    assert_eq!(shapes(&run.checkpoint()), of_both);
}

#[test]
fn tiles_of_another_size_resize_the_position_embedding() {
    let run = Run::trained(&model_folder("qwen2"), json!({ "force_image_size": 84 }));
    let name = "vision_model.embeddings.position_embedding";
    assert_eq!(shapes(&model_folder("qwen2"))[name], [1, 4 * 4 + 1, 64]);
    assert_eq!(shapes(&run.checkpoint())[name], [1, 6 * 6 + 1, 64]);
    let config = Config::open(&run.checkpoint()).expect("a configuration");
    let vision = config.vision.expect("a vision encoder");
    let stored = vision.intern_vit().expect("an encoder of tiles").image_size;
    let ImageSettings::Tiles(tiles) = config.images else {
        panic!("tiles");
    };
    assert_eq!((stored, tiles.image_size), (84, 84));
    run.check("main");
}

#[test]
fn a_chat_model_is_trained_before_it_is_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let chat = model_folder("internlm2_plain");
    let message = refused(&export(&chat, &folder.path().join("bundle"), "main"));
    let expected = format!("no tensor {SCORE_HEAD}: this checkpoint has no reward head");
    assert!(message.contains(&expected), "{message}");
    assert!(
        message.contains("train it as a reward model first"),
        "{message}"
    );
    let run = Run::trained(&model_folder("internlm2_plain"), json!({}));
    let (mut before, after) = (shapes(&chat), shapes(&run.checkpoint()));
    before.insert(SCORE_HEAD.to_owned(), vec![1, 64]);
    assert_eq!(after, before);
    run.check("main");
}

#[test]
fn branches_share_one_tokenizer() {
    let keys = json!({
        "algorithm": "shortcut_aware",
        "bias_model_path": model_folder("internlm2"),
    });
    let message = refused(&Run::new(&model_folder("qwen2"), keys).train());
    assert!(
        message.contains("both branches must share one"),
        "{message}"
    );
}

/// A copy of the model without the image tokens, the last of its vocabulary, and their rows.
fn without_image_tokens(folder: &Path) {
    const ROWS: usize = 908;
    let golden = model_folder("internlm2");
    let read = |file: &str| golden::json(&format!("models/internlm2/{file}"));
    let write = |file: &str, value: &Value| {
        fs::write(folder.join(file), value.to_string()).expect("written");
    };
    fs::create_dir(folder).expect("a folder");
    fs::copy(
        golden.join("tokenizer.model"),
        folder.join("tokenizer.model"),
    )
    .expect("copied");
    let (mut settings, mut special) = (
        read("tokenizer_config.json"),
        read("special_tokens_map.json"),
    );
    let decoder = settings["added_tokens_decoder"]
        .as_object_mut()
        .expect("ids");
    decoder.retain(|id, _| id.parse::<usize>().is_ok_and(|id| id < ROWS));
    for list in [&mut settings, &mut special] {
        let list = list["additional_special_tokens"]
            .as_array_mut()
            .expect("a list");
        list.retain(|token| token.as_str().is_some_and(|token| token.contains('|')));
    }
    write("tokenizer_config.json", &settings);
    write("special_tokens_map.json", &special);
    let mut config = read("config.json");
    config["llm_config"]["vocab_size"] = json!(ROWS);
    write("config.json", &config);
    write_rows(&golden, folder, ROWS);
}

/// The model's weights, with the first `rows` of both tables.
fn write_rows(model: &Path, folder: &Path, rows: usize) {
    let (weights, config) = (
        Checkpoint::open(model).expect("weights"),
        Config::open(model).expect("sizes"),
    );
    let tables = [
        net::token_embeddings(&config.text),
        net::output_projection(&config.text),
    ];
    let tensor = |(name, info): (&str, &TensorInfo)| {
        let mut shape = info.shape.clone();
        if tables.iter().any(|table| table == name) {
            shape[0] = rows;
        }
        let bytes = weights.read(name).expect("a tensor");
        let kept = shape.iter().product::<usize>() * info.dtype.size();
        TensorData {
            name: name.to_owned(),
            dtype: info.dtype,
            shape,
            bytes: Box::new(move || Cow::Owned(bytes[..kept].to_vec())),
        }
    };
    let tensors = weights.tensors().map(tensor).collect();
    write_tensors(&folder.join(WEIGHTS_FILE), tensors).expect("written");
}

/// A checkpoint whose tokenizer lacks the image tokens gets them, and rows for them.
#[test]
fn new_tokens_get_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model");
    without_image_tokens(&model);
    let run = Run::trained(&model, json!({}));
    let table = "language_model.model.tok_embeddings.weight";
    assert_eq!(shapes(&model)[table], [908, 64]);
    assert_eq!(shapes(&run.checkpoint())[table], [917, 64]);
    assert_eq!(
        config_json(&run.checkpoint())["llm_config"]["vocab_size"],
        917
    );
    run.check("main");
    // A table that fits stays unchanged.
    let again = Run::trained(&run.checkpoint(), json!({}));
    assert_eq!(shapes(&again.checkpoint()), shapes(&run.checkpoint()));
}
