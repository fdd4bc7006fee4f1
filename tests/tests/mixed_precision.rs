//! A run in bf16 through the programs: the contents of its checkpoint, its resumption, and that the served model is the
//! trained one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use seeward_models::checkpoint::{Checkpoint, Dtype};
use seeward_tests::golden;
use seeward_tests::program::program;
use seeward_train::libtorch::parameters::read;
use serde_json::{Value, json};
use tch::{Device, Kind};

/// A run's folder with its config.
struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    /// Shortcut-aware, in bf16, a checkpoint every second step of five.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = golden::path("models/qwen2").display().to_string();
        let config = json!({
            "model_name_or_path": model,
            "bias_model_path": model,
            "dataset_path": golden::path("train/pairwise.jsonl"),
            "output_dir": folder.path().join("run"),
            "bf16": true,
            "freeze_backbone": true,
            "max_steps": 5,
            "save_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "threads": 1,
        });
        fs::write(folder.path().join("config.yaml"), config.to_string()).expect("written");
        Self { folder }
    }

    fn train(&self, sets: &[&str]) -> Output {
        let mut train = program("seeward-train");
        train
            .arg("--config")
            .arg(self.folder.path().join("config.yaml"));
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        train.args(sets).output().expect("runs")
    }

    fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.path().join("run").join(name)
    }
}

fn succeed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn tensors(checkpoint: &Path) -> [Vec<u8>; 2] {
    let file = |name| fs::read(checkpoint.join(name)).expect(name);
    [file("model.safetensors"), file("optimizer.safetensors")]
}

#[test]
fn a_checkpoint_holds_bf16_weights_and_their_fp32_masters() {
    let run = Run::new();
    succeed(&run.train(&[]));
    let folder = run.checkpoint("checkpoint-last");
    let config = fs::read(folder.join("config.json")).expect("config.json");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["llm_config"]["torch_dtype"], "bfloat16");

    let weights = Checkpoint::open(&folder).expect("a checkpoint");
    let state = Checkpoint::open_file(&folder.join("optimizer.safetensors")).expect("a state");
    let mut finer = 0;
    for (name, info) in weights.tensors() {
        assert_eq!(info.dtype, Dtype::Bf16, "{name}");
        let master = format!("master.{name}");
        let trains = !name.contains("vision_model.") && !name.contains(".lm_head.");
        assert_eq!(state.contains(&master), trains, "{name}");
        if trains {
            assert_eq!(state.info(&master).expect("there").dtype, Dtype::F32);
            let weight = read(&weights, name, Device::Cpu).expect(name);
            let master = read(&state, &master, Device::Cpu).expect(name);
            let rounded = master.to_kind(Kind::BFloat16).to_kind(Kind::Float);
            assert!(rounded == weight, "{name}");
            finer += usize::from(master != weight);
        }
    }
    assert!(finer > 50, "{finer} masters are finer than their weights");
}

#[test]
fn a_run_resumes_bit_for_bit_from_its_masters() {
    let run = Run::new();
    succeed(&run.train(&[]));
    let last = run.checkpoint("checkpoint-last");
    let whole = tensors(&last);
    // As if it had been interrupted between steps 4 and 5.
    fs::remove_dir_all(&last).expect("removed");
    succeed(&run.train(&[]));
    assert!(tensors(&last) == whole);

    fs::remove_dir_all(&last).expect("removed");
    let refused = run.train(&["bf16=false"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("another bf16"), "{said}");
}

/// The probes are computed in fp32 on the rounded weights, and so is the bundle: bf16 rewards would be off by 1e-2.
#[test]
fn the_served_model_is_the_trained_one() {
    let run = Run::new();
    succeed(&run.train(&[]));
    for branch in ["main", "text_only"] {
        let bundle = run.folder.path().join(branch);
        let mut export = program("seeward-export");
        export
            .arg("--checkpoint")
            .arg(run.checkpoint("checkpoint-last"));
        export
            .arg("--output")
            .arg(&bundle)
            .args(["--branch", branch]);
        succeed(&export.output().expect("runs"));
        let mut check = program("seeward-score");
        let checked = check.args(["--check", "--model"]).arg(&bundle).output();
        succeed(&checked.expect("runs"));
    }
}

#[test]
fn half_precisions_do_not_mix_and_tf32_needs_a_gpu() {
    let run = Run::new();
    let refused = run.train(&["fp16=true"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("fp16=true: expected false"), "{said}");
    let trained = run.train(&["tf32=true", "max_steps=1"]);
    succeed(&trained);
    let said = String::from_utf8_lossy(&trained.stderr);
    assert!(
        said.contains("tf32: no effect: only CUDA devices support it"),
        "{said}"
    );
}
