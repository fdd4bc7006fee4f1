//! The golden files: values of the published implementation on tiny random weights.

use std::path::PathBuf;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::net::SCORE_HEAD;
use serde_json::Value;

/// The path of a golden file or folder.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")).join(name)
}

/// A golden JSON file.
///
/// # Panics
/// When it cannot be read: a test cannot continue without it.
pub fn json(name: &str) -> Value {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names of the folders in a golden folder, in order: one for each model.
///
/// # Panics
/// When the folder is empty: a test over it would test nothing.
pub fn folders(name: &str) -> Vec<String> {
    let path = path(name);
    let entries = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let entries = entries.map(|entry| entry.unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert!(!names.is_empty(), "{}: no folders", path.display());
    names
}

/// The reward models of the published implementation, by their folders in `models`.
///
/// # Panics
/// As [`folders`], or when one cannot be read.
pub fn reward_models() -> Vec<String> {
    let has_head = |name: &String| {
        let folder = path("models").join(name);
        let weights = Checkpoint::open(&folder).unwrap_or_else(|e| panic!("{e}"));
        weights.contains(SCORE_HEAD)
    };
    let mut names = folders("models");
    names.retain(has_head);
    names
}

/// A list of numbers inside a golden file.
///
/// # Panics
/// When it is anything else.
pub fn numbers(value: &Value) -> Vec<f64> {
    let list = value
        .as_array()
        .unwrap_or_else(|| panic!("expected a list, got {value}"));
    list.iter().map(number).collect()
}

/// A number inside a golden file.
///
/// # Panics
/// When it is anything else.
pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("expected a number, got {value}"))
}
