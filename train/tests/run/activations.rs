//! The activation memory that `--dry-run` estimates, compared with the memory that the process uses.

use std::fs;
use std::path::Path;

use seeward_models::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::config::Config;
use seeward_models::net::{Branch, parameters};
use serde_json::{Value, json};

use crate::support::{Run, golden, message};

/// Tolerated factor between estimate and measurement, either way: kernels have their own buffers, and all other memory
/// differs slightly between the two runs. Measured factors are 0.96 to 1.13.
const FACTOR: f64 = 1.3;
/// An image of seven tiles.
const IMAGE: &str = "images/train_2.png";
/// Rows of the larger batch.
const ROWS: usize = 8;

/// Writes the golden model with more and wider layers, so that activations dominate.
fn model(folder: &Path) {
    let small = golden("models/qwen2");
    for entry in fs::read_dir(&small).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let text = fs::read_to_string(small.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["force_image_size"] = json!(112);
    config["vision_config"]["image_size"] = json!(112);
    for part in ["llm_config", "vision_config"] {
        config[part]["num_hidden_layers"] = json!(6);
        config[part]["hidden_size"] = json!(128);
        config[part]["intermediate_size"] = json!(512);
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let wanted = parameters(&Config::open(folder).unwrap(), Branch::Main);
    let values = |count: usize| (0..count).map(|i| 0.02 * (i as f32).sin()).collect();
    let tensors: Vec<(_, Vec<f32>)> = wanted
        .iter()
        .map(|p| (p, values(p.shape.iter().product())))
        .collect();
    let data = tensors
        .iter()
        .map(|(p, values)| TensorData::f32(&p.name, &p.shape, values));
    write_tensors(&folder.join(WEIGHTS_FILE), data.collect()).unwrap();
}

/// Writes rows of equal size; with `images`, each has a separate copy of the same image.
fn write_rows(folder: &Path, words: usize, images: bool) {
    let row = |index: usize| {
        let (prompt, long) = ("word ".repeat(words), "other ".repeat(words / 8));
        let mut row = json!({"prompt": prompt, "chosen": long, "rejected": format!("no {long}")});
        if images {
            let name = format!("{index}.png");
            fs::copy(golden(IMAGE), folder.join(&name)).unwrap();
            row["img_path"] = json!(name);
        }
        format!("{row}\n")
    };
    let rows: String = (0..ROWS).map(row).collect();
    fs::write(folder.join("rows.jsonl"), rows).unwrap();
}

/// Estimated and measured bytes for a batch of `rows` rows.
fn bytes(run: &Run, rows: usize) -> [f64; 2] {
    let batch = format!("per_device_train_batch_size={rows}");
    let set = ["--set", &batch, "--set", "overwrite_output_dir=true"];
    let output = run.train(&[&set[..], &["--dry-run"]].concat());
    let survey: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = survey["memory"]["activations"].as_f64().unwrap();
    // Allocates every block in its own pages and returns them, as happens with the large blocks of real models.
    // Otherwise unused pieces of this small model's heap would count.
    let output = run
        .program()
        .args(set)
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", message(&output));
    // The second step has the optimizer's state from its start.
    [expected, run.series("peak_memory_bytes")[1]]
}

/// Checks the estimated difference between two batch sizes against the measured one, which excludes constant memory.
fn check(folder: &Path, keys: &str) {
    let run = Run::new(&format!(
        "max_steps: 2\nshuffle: false\nmodel_name_or_path: {}\ndataset_path: {}\n{keys}",
        folder.display(),
        folder.join("rows.jsonl").display(),
    ));
    let ([few, measured_few], [many, measured_many]) = (bytes(&run, 1), bytes(&run, ROWS));
    let (expected, measured) = (many - few, measured_many - measured_few);
    let ratio = expected / measured;
    eprintln!("{keys:?}: {:.0} MB, {ratio:.2}", measured / 1e6);
    assert!(
        (1.0 / FACTOR..FACTOR).contains(&ratio),
        "{keys:?}: expected {expected}, measured {measured}: {ratio:.2}"
    );
}

#[test]
fn activations_of_the_language_model() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    write_rows(folder.path(), 50, false);
    for keys in [
        "bf16: false",
        "grad_checkpoint: true",
        "bf16: true",
        "bf16: true\nshare_computation: false\ngrad_checkpoint: true",
        "use_llm_lora: true\nlora_r: 8",
        "algorithm: sft",
        "algorithm: shortcut_aware\nbias_model_path: MODEL",
    ] {
        let keys = keys.replace("MODEL", &folder.path().display().to_string());
        check(folder.path(), &keys);
    }
}

#[test]
fn activations_of_the_vision_model() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    write_rows(folder.path(), 8, true);
    for keys in [
        "bf16: false",
        "grad_checkpoint: true",
        "bf16: true",
        "unfreeze_vit_layers: -2\nfreeze_backbone: true",
    ] {
        check(folder.path(), keys);
    }
}
