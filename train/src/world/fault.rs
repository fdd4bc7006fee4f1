//! The error of a process, for the launcher that started it.

use std::env;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

/// Writes the error where torchrun reads it, the file of `TORCHELASTIC_ERROR_FILE`, if it is set.
pub fn record(problem: &str) {
    let Some(path) = env::var_os("TORCHELASTIC_ERROR_FILE") else {
        return;
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    // torchrun prints the stack as the cause.
    let extra = json!({ "py_callstack": problem, "timestamp": seconds.to_string() });
    let error = json!({ "message": { "message": problem, "extraInfo": extra } });
    // The message on stderr matters more than a second failure.
    let _ = fs::write(path, error.to_string());
}
