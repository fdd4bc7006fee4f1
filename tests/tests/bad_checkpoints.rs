//! Checkpoints with missing, surplus or damaged parts: training and export refuse them with the same message.
#![allow(clippy::unwrap_used, missing_docs)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seeward_models::checkpoint::{
    Checkpoint, Dtype, TensorData, TensorInfo, WEIGHTS_FILE, write_tensors,
};
use seeward_tests::golden;
use seeward_tests::program::program;
use serde_json::{Value, json};

/// A copy of a golden checkpoint, to be damaged.
struct Spoilt {
    root: tempfile::TempDir,
}

/// A change of a file's bytes.
type Change = fn(&mut Vec<u8>);
/// A tensor: dtype, shape, bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

impl Spoilt {
    fn new() -> Self {
        let spoilt = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(spoilt.folder()).unwrap();
        for entry in fs::read_dir(golden::path("models/qwen2")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), spoilt.folder().join(entry.file_name())).unwrap();
        }
        spoilt
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("checkpoint")
    }

    /// Changes the bytes of a file.
    fn bytes(self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = self.folder().join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
        self
    }

    /// Changes a value of config.json.
    fn config(self, at: &str, value: Value) -> Self {
        self.bytes("config.json", |bytes| {
            let mut config: Value = serde_json::from_slice(bytes).unwrap();
            *config.pointer_mut(at).unwrap() = value;
            *bytes = config.to_string().into_bytes();
        })
    }

    /// Changes the tensors.
    fn tensors(self, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> Self {
        let path = self.folder().join(WEIGHTS_FILE);
        let source = Checkpoint::open_file(&path).unwrap();
        let read = |(name, info): (&str, &TensorInfo)| {
            let bytes = source.read(name).unwrap();
            (name.to_owned(), (info.dtype, info.shape.clone(), bytes))
        };
        let mut tensors = source.tensors().map(read).collect();
        change(&mut tensors);
        write_tensors(&path, tensors.into_iter().map(data).collect()).unwrap();
        self
    }

    fn export(&self) -> Output {
        let mut export = program("seeward-export");
        export.arg("--checkpoint").arg(self.folder());
        output(export.arg("--output").arg(self.root.path().join("bundle")))
    }

    fn train(&self) -> Output {
        let config = json!({
            "model_name_or_path": self.folder(),
            "dataset_path": golden::path("train/pairwise.jsonl"),
            "output_dir": self.root.path().join("run"),
            "max_steps": 1,
            "threads": 1,
        });
        let path = self.root.path().join("config.yaml");
        fs::write(&path, config.to_string()).unwrap();
        output(program("seeward-train").arg("--config").arg(path))
    }

    /// Both programs print `problem`, after the path of the folder or of a file in it.
    #[track_caller]
    fn is_refused(&self, problem: &str) {
        for (program, run) in [("export", self.export()), ("train", self.train())] {
            let said = String::from_utf8_lossy(&run.stderr);
            assert_eq!(run.status.code(), Some(2), "{program}: {said}");
            assert!(
                said.contains(problem),
                "{program}: expected {problem:?} in: {said}"
            );
            let folder = self.folder().display().to_string();
            assert!(said.contains(&folder), "{program}: {said}");
            let lines = said.lines().count();
            assert!(lines == 1 || program == "train", "{program}: {said}");
        }
        assert!(!self.root.path().join("bundle").exists());
    }
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn data((name, (dtype, shape, bytes)): (String, Tensor)) -> TensorData<'static> {
    TensorData {
        name,
        dtype,
        shape,
        bytes: Box::new(move || Cow::Owned(bytes.clone())),
    }
}

const NORM: &str = "language_model.model.norm.weight";

#[test]
fn tensors_are_those_of_the_config() {
    let lost = Spoilt::new().tensors(|tensors| drop(tensors.remove(NORM)));
    lost.is_refused(&format!("missing tensor {NORM}"));

    let doubled = Spoilt::new().tensors(|tensors| {
        tensors.insert("extra.weight".to_owned(), tensors[NORM].clone());
    });
    doubled.is_refused("surplus tensor extra.weight");

    let reshaped = Spoilt::new().tensors(|tensors| tensors.get_mut(NORM).unwrap().1 = vec![8, 8]);
    reshaped.is_refused(&format!("tensor {NORM}: expected shape [64], got [8, 8]"));

    // The number of heads decides the width of the keys.
    let wider = Spoilt::new().config("/llm_config/num_key_value_heads", json!(4));
    wider.is_refused("k_proj.weight: expected shape [64, 64], got [32, 64]");
}

/// Replaces the first `from` in the header by `to`, of the same length.
fn in_header(from: &'static str, to: &'static str) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
    }
}

#[test]
fn a_damaged_safetensors_header_is_reported() {
    for (from, to, problem) in [
        ("\"F32\"", "\"I32\"", "expected F32, F16 or BF16, got I32"),
        (
            "\"F32\"",
            "\"F99\"",
            "safetensors header: unknown variant `F99`",
        ),
        ("\"F32\"", "\"F16\"", "safetensors header: invalid"),
        ("[0,", "[4,", "safetensors header: invalid"),
        ("{\"", "[\"", "safetensors header: invalid"),
    ] {
        let spoilt = Spoilt::new().bytes(WEIGHTS_FILE, in_header(from, to));
        spoilt.is_refused(problem);
    }
}

#[test]
fn a_safetensors_file_of_another_length_is_reported() {
    let changes: [(Change, &str); 5] = [
        (
            |bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()),
            "safetensors header of 18446744073709551615 bytes",
        ),
        (|bytes| bytes.truncate(5), "safetensors header: "),
        (|bytes| bytes.clear(), "safetensors header: "),
        (
            |bytes| bytes.truncate(bytes.len() - 4),
            "bytes of tensors, got",
        ),
        (|bytes| bytes.push(0), "bytes of tensors, got"),
    ];
    for (change, problem) in changes {
        let spoilt = Spoilt::new().bytes(WEIGHTS_FILE, change);
        spoilt.is_refused(problem);
    }
}

#[test]
fn a_broken_config_or_tokenizer_is_reported() {
    let config = |at, value| Spoilt::new().config(at, value);
    config("/llm_config/architectures", json!(["OtherLM"]))
        .is_refused("architecture OtherLM is not supported");
    config("/llm_config/num_attention_heads", json!(5)).is_refused("num_attention_heads");
    config("/llm_config/hidden_size", json!("64")).is_refused("hidden_size: expected");
    config("/model_type", json!("bert")).is_refused("model_type");
    Spoilt::new()
        .bytes("config.json", |b| b.truncate(100))
        .is_refused("config.json: EOF while parsing");
    Spoilt::new()
        .bytes("vocab.json", |b| b.truncate(100))
        .is_refused("vocab.json: EOF while parsing");
    Spoilt::new()
        .bytes("merges.txt", |b| b.truncate(100))
        .is_refused("merges.txt:21: expected two words, got 1");
    // Without the other files, tokenizer.json is read.
    let alone = Spoilt::new().bytes("tokenizer.json", |b| b.truncate(b.len() / 2));
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::remove_file(alone.folder().join(name)).unwrap();
    }
    alone.is_refused("tokenizer.json: EOF while parsing");
}

#[test]
fn a_missing_file_is_named() {
    for (name, problem) in [
        ("config.json", "config.json: No such file"),
        (
            WEIGHTS_FILE,
            "neither model.safetensors nor model.safetensors.index.json",
        ),
        ("vocab.json", "vocab.json is missing next to merges.txt"),
    ] {
        let spoilt = Spoilt::new();
        fs::remove_file(spoilt.folder().join(name)).unwrap();
        spoilt.is_refused(problem);
    }
}

#[test]
fn a_broken_index_of_shards_is_reported() {
    for (index, problem) in [
        ("{", "index.json: EOF while parsing"),
        ("{}", "index.json: expected an object weight_map"),
        (
            r#"{"weight_map":{"a":1}}"#,
            "index.json: weight_map: a: expected a file name, got 1",
        ),
        (
            r#"{"weight_map":{"a":"none.safetensors"}}"#,
            "none.safetensors: No such file",
        ),
    ] {
        let spoilt = Spoilt::new();
        let folder: &Path = &spoilt.folder();
        fs::remove_file(folder.join(WEIGHTS_FILE)).unwrap();
        fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
        spoilt.is_refused(problem);
    }
}

/// Files of a folder of others that decide what it is.
#[test]
fn what_a_folder_holds_is_named_with_its_cure() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1876395376\n";
    let spoilt = Spoilt::new().bytes(WEIGHTS_FILE, |bytes| *bytes = pointer.to_vec());
    spoilt.is_refused("a Git LFS pointer in place of the file: run git lfs pull");

    let quantized = Spoilt::new().bytes("config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        config["quantization_config"] = json!({"bits": 4, "quant_method": "awq"});
        *bytes = config.to_string().into_bytes();
    });
    quantized.is_refused("quantized weights (awq)");

    let pickled = Spoilt::new();
    let weights = pickled.folder().join(WEIGHTS_FILE);
    fs::rename(weights, pickled.folder().join("pytorch_model.bin")).unwrap();
    pickled.is_refused("weights as pytorch_model.bin, a pickle");

    let lora = Spoilt::new().tensors(|tensors| {
        let low = (Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert(
            "language_model.base_model.model.a.lora_A.default.weight".into(),
            low,
        );
    });
    lora.is_refused("LoRA layers that are not merged, such as language_model.base_model");

    let wrapped = Spoilt::new().tensors(|tensors| {
        let names = std::mem::take(tensors).into_iter();
        tensors.extend(names.map(|(name, tensor)| (format!("module.{name}"), tensor)));
    });
    wrapped.is_refused("every tensor's name begins with \"module.\"");

    // A true folder of that layout is read, but it has other sections.
    let mixed = Spoilt::new().config("/model_type", json!("internvl"));
    mixed.is_refused("text_config: expected an object, got nothing");

    let cut = Spoilt::new().bytes("merges.txt", |bytes| {
        let half = bytes[..bytes.len() / 2]
            .iter()
            .rposition(|&byte| byte == b'\n');
        bytes.truncate(half.unwrap() + 1);
    });
    cut.is_refused("merges.txt: no merge makes ");
}

/// Tensors that others save differently, or not at all, and that no reward depends on.
#[test]
fn checkpoints_of_others_export_to_the_same_weights() {
    let weights = |spoilt: &Spoilt, notice: &str| {
        let run = spoilt.export();
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.success() && said.contains(notice), "{said}");
        let manifest = fs::read(spoilt.root.path().join("bundle/reward_model.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let mut files = manifest["files"].as_object().unwrap().clone();
        files.retain(|name, _| name.contains("onnx"));
        assert!(files.len() > 2, "{files:?}");
        files
    };
    const OUTPUT: &str = "language_model.lm_head.weight";
    const LAYER: &str = "language_model.model.layers.0.self_attn.";
    let base = weights(&Spoilt::new(), "");
    let swift = Spoilt::new().tensors(|tensors| {
        let head = tensors.remove("score.weight").unwrap();
        tensors.insert("language_model.score.weight".into(), head);
        tensors.remove(OUTPUT).unwrap();
    });
    assert_eq!(weights(&swift, ""), base);
    let run = swift.train();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let buffers = Spoilt::new().tensors(|tensors| {
        let buffer = (Dtype::F32, vec![4], vec![0; 16]);
        tensors.insert(format!("{LAYER}rotary_emb.inv_freq"), buffer);
    });
    let notice =
        format!("1 buffers without weights are ignored, such as {LAYER}rotary_emb.inv_freq");
    assert_eq!(weights(&buffers, &notice), base);
    let class = Spoilt::new().bytes("tokenizer_config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        config["tokenizer_class"] = json!("TokenizersBackend");
        *bytes = config.to_string().into_bytes();
    });
    assert_eq!(weights(&class, ""), base);
}

/// The scores of the exported bundle for a few responses.
fn scores(spoilt: &Spoilt) -> Vec<f64> {
    let run = spoilt.export();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    let rows = spoilt.root.path().join("rows.jsonl");
    let row = json!({"prompt": "what colour is the largest shape?", "responses": ["It is blue.", "It is pink, I am sure."]});
    fs::write(&rows, row.to_string()).unwrap();
    let mut score = program("seeward-score");
    score.arg("--model").arg(spoilt.root.path().join("bundle"));
    score.arg("--input").arg(rows).args(["--output", "-"]);
    let run = output(&mut score);
    let lines = String::from_utf8(run.stdout).unwrap();
    let score = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["score"].as_f64().unwrap()
    };
    let scores: Vec<f64> = lines.lines().map(score).collect();
    assert_eq!(scores.len(), 2, "{}", String::from_utf8_lossy(&run.stderr));
    scores
}

/// As version 5 of transformers writes them.
#[test]
fn rope_parameters_decide_the_score() {
    let with_parameters = |theta: Option<f64>| {
        Spoilt::new().bytes("config.json", |bytes| {
            let mut config: Value = serde_json::from_slice(bytes).unwrap();
            let model = config["llm_config"].as_object_mut().unwrap();
            let own = model.remove("rope_theta").unwrap();
            model.remove("rope_scaling");
            let theta = theta.map_or(own, Value::from);
            let parameters = json!({"rope_theta": theta, "rope_type": "default"});
            model.insert("rope_parameters".into(), parameters);
            *bytes = config.to_string().into_bytes();
        })
    };
    let base = scores(&Spoilt::new());
    assert_eq!(scores(&with_parameters(None)), base);
    assert_ne!(scores(&with_parameters(Some(100.0))), base);
    let unknown = Spoilt::new().bytes("config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        config["llm_config"]["rope_new"] = json!(1);
        *bytes = config.to_string().into_bytes();
    });
    unknown.is_refused("rope_new");
}
