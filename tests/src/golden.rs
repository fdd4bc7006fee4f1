//! The golden files: values of the published implementation on tiny random weights.

use std::path::PathBuf;

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
