//! A run's folder and config, the program that trains in it, and its output.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seeward_models::checkpoint::Checkpoint;
use serde_json::Value;

pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// A run's folder with its config; keys are YAML lines.
pub(crate) struct Run {
    pub(crate) folder: tempfile::TempDir,
}

impl Run {
    pub(crate) fn new(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = format!(
            "model_name_or_path: {}\ndataset_path: {}\noutput_dir: {}\n\
             max_steps: 4\nper_device_train_batch_size: 4\nlearning_rate: 1.0e-3\nlogging_steps: 1\nthreads: 1\n",
            golden("models/qwen2").display(),
            golden("train/pairwise.jsonl").display(),
            folder.path().join("out").display(),
        );
        let given: Vec<&str> = keys
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, _)| key)
            .collect();
        let kept = base
            .lines()
            .filter(|line| !given.iter().any(|key| line.starts_with(&format!("{key}:"))));
        let config = kept.chain(keys.lines()).collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        Self { folder }
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn last(&self) -> PathBuf {
        self.output().join("checkpoint-last")
    }

    /// The command that trains in this folder.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-train"));
        let config = self.folder.path().join("config.yaml");
        command.arg("--config").arg(config);
        command
    }

    pub(crate) fn train(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).output().unwrap()
    }

    /// The names in the output folder that begin with `start`, sorted.
    pub(crate) fn names(&self, start: &str) -> Vec<String> {
        let entries = fs::read_dir(self.output()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(start)).collect();
        names.sort();
        names
    }

    pub(crate) fn succeed(self) -> Self {
        let output = self.train(&[]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self
    }

    /// The message of a run, which must fail.
    pub(crate) fn refuse(&self, arguments: &[&str]) -> String {
        let output = self.train(arguments);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn metrics(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.output().join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The records without speed and memory: those of an interrupted and an uninterrupted run must be equal.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut records = self.metrics();
        for record in &mut records {
            for measured in [
                "pairs_per_second",
                "tokens_per_second",
                "waiting_seconds",
                "peak_memory_bytes",
            ] {
                record.as_object_mut().unwrap().remove(measured);
            }
        }
        records
    }

    /// One value per logged step.
    pub(crate) fn series(&self, key: &str) -> Vec<f64> {
        self.metrics()
            .iter()
            .filter_map(|line| line.get(key))
            .map(|value| value.as_f64().unwrap())
            .collect()
    }
}

pub(crate) fn weights(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let floats = |name: &str| {
        let bytes = checkpoint.read(name).unwrap();
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    checkpoint
        .tensors()
        .map(|(name, _)| (name.to_owned(), floats(name)))
        .collect()
}

pub(crate) fn largest_difference(
    a: &BTreeMap<String, Vec<f32>>,
    b: &BTreeMap<String, Vec<f32>>,
) -> f32 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.values().flatten().zip(b.values().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const SHORTCUT_AWARE: &str = "algorithm: shortcut_aware\nbias_model_path: ";

pub(crate) fn shortcut_aware(keys: &str) -> Run {
    Run::new(&format!(
        "{SHORTCUT_AWARE}{}\n{keys}",
        golden("models/qwen2").display()
    ))
}

/// Everything written to stderr.
pub(crate) fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
