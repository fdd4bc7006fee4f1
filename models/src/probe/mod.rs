//! Probes: a few rows with the rewards that the trainer measured on the weights it saved. They travel with checkpoint
//! and bundle, so that serving can verify that the model still gives these rewards, or say by how much it does not.

mod errors;
mod record;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic::replace_file;
use crate::{Error, Result};

pub use errors::{LOSSY_TOLERANCE, RewardErrors, RewardRow, Tolerance, Verdict};
pub use record::{Conditions, RECORD_FILE, Record};

/// The folder of the probes' images, in a checkpoint and in a bundle.
pub const PROBE_FOLDER: &str = "probes";
/// The rows, in a checkpoint's folder of probes; a bundle has them in its manifest.
const ROWS_FILE: &str = "probes.json";

/// A row with its rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The user's question.
    pub prompt: String,
    /// Image files, relative to the checkpoint or bundle.
    pub images: Vec<String>,
    /// The responses.
    pub responses: Vec<String>,
    /// One reward for each response, measured in fp32.
    pub rewards: Vec<f32>,
    /// The rewards of a checkpoint's text-only branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_only_rewards: Option<Vec<f32>>,
}

/// The probes of a checkpoint; none if it was trained elsewhere.
///
/// # Errors
/// A file that cannot be read or is malformed.
pub fn read(checkpoint: &Path) -> Result<Vec<Probe>> {
    let path = checkpoint.join(PROBE_FOLDER).join(ROWS_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(&path, e)),
    }
}

/// Writes the rows of a checkpoint, whose folder of probes already holds their images.
///
/// # Errors
/// The disk's.
pub fn write(checkpoint: &Path, probes: &[Probe]) -> Result<()> {
    let text = serde_json::to_string_pretty(probes).map_err(Error::invalid)?;
    replace_file(
        &checkpoint.join(PROBE_FOLDER).join(ROWS_FILE),
        text.as_bytes(),
    )
}
