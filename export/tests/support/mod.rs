//! Checkpoints to export: the golden ones, and changed copies of them.
#![allow(dead_code, clippy::unwrap_used)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use seeward_export::Options;
use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::config::{HeadChoices, PixelLimits};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::{Branch, SCORE_HEAD};
use seeward_models::prompt::Template;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// Name of a golden checkpoint, branch.
pub(crate) const GOLDEN: [(&str, Branch); 4] = [
    ("qwen2", Branch::Main),
    ("qwen2_tied", Branch::Main),
    ("qwen2_dual", Branch::Main),
    ("qwen2_dual", Branch::TextOnly),
];

pub(crate) fn golden(name: &str) -> PathBuf {
    let golden = Path::new(ROOT);
    let model = golden.join("models").join(name);
    match model.exists() {
        true => model,
        false => golden.join("families").join(name).join("model"),
    }
}

/// The golden reward models of the published implementation.
pub(crate) fn reward_models() -> Vec<String> {
    let mut names = folders("models");
    names.retain(|name| {
        Checkpoint::open(&golden(name))
            .unwrap()
            .contains(SCORE_HEAD)
    });
    names
}

/// The golden families of newer models.
pub(crate) fn families() -> Vec<String> {
    folders("families")
}

/// The names of the folders in a golden folder.
fn folders(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join(name)).unwrap();
    let folders = entries
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{name}");
    names
}

/// The template of a golden model whose folder names none.
fn template(name: &str) -> Option<Template> {
    let path = Path::new(ROOT)
        .join("families")
        .join(name)
        .join("golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).ok()?).unwrap();
    Some(golden["template"].as_str()?.parse().unwrap())
}

/// The options for a golden model.
pub(crate) fn golden_options(name: &str, output: &Path, branch: Branch) -> Options {
    Options {
        template: template(name),
        ..options(&golden(name), output, branch)
    }
}

pub(crate) fn options(checkpoint: &Path, output: &Path, branch: Branch) -> Options {
    Options {
        checkpoint: checkpoint.to_owned(),
        output: output.to_owned(),
        branch,
        target: Target::Portable,
        precision: Precision::Fp32,
        max_length: None,
        template: None,
        pixels: PixelLimits::default(),
        head: HeadChoices::default(),
    }
}

/// A tensor of a checkpoint.
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// A copy of a golden checkpoint with `change` applied to every tensor; `None` removes it.
pub(crate) fn altered(
    name: &str,
    into: &Path,
    change: impl Fn(&str, Tensor) -> Option<Tensor>,
) -> PathBuf {
    let folder = into.join("checkpoint");
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let file = entry.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let source = Checkpoint::open(&golden(name)).unwrap();
    let tensors = source.tensors().filter_map(|(name, info)| {
        let tensor = Tensor {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: source.read(name).unwrap(),
        };
        change(name, tensor).map(|tensor| data(name, tensor))
    });
    write_tensors(&folder.join(WEIGHTS_FILE), tensors.collect()).unwrap();
    folder
}

fn data(name: &str, tensor: Tensor) -> TensorData<'static> {
    TensorData {
        name: name.to_owned(),
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: Box::new(move || Cow::Owned(tensor.bytes.clone())),
    }
}

/// Changes `config.json` of a copy.
pub(crate) fn reconfigured(checkpoint: &Path, change: impl FnOnce(&mut Value)) {
    let path = checkpoint.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}
