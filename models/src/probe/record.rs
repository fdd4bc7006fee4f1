//! The measured errors of a bundle, kept in its folder so that they are measured once.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RewardErrors;
use crate::atomic::replace_file;
use crate::{Error, Result};

/// The record's name in the bundle.
pub const RECORD_FILE: &str = "reward_errors.json";

/// The errors of a bundle's probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Everything that decides them.
    pub conditions: Conditions,
    /// The errors.
    pub errors: RewardErrors,
}

/// Everything that decides the errors of a bundle's probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// sha256 of the bundle's manifest.
    pub bundle: String,
    /// Version of the runtime.
    pub version: String,
    /// The execution provider.
    pub provider: String,
    /// The vector instructions of the CPU.
    pub cpu: String,
}

impl Record {
    /// The record in the bundle `folder`, if there is one of these conditions. One that cannot be read counts as none:
    /// measuring again is the cure.
    pub fn read(folder: &Path, conditions: &Conditions) -> Option<Self> {
        let text = fs::read_to_string(folder.join(RECORD_FILE)).ok()?;
        let record: Self = serde_json::from_str(&text).ok()?;
        (record.conditions == *conditions).then_some(record)
    }

    /// Writes the record into the bundle `folder`.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(Error::invalid)?;
        replace_file(&folder.join(RECORD_FILE), (json + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::RewardRow;
    use super::*;

    fn record(cpu: &str) -> Record {
        let row = RewardRow {
            expected: vec![0.1, 0.7],
            got: vec![0.2, 0.3],
        };
        Record {
            conditions: Conditions {
                bundle: "b".to_owned(),
                version: "1".to_owned(),
                provider: "p".to_owned(),
                cpu: cpu.to_owned(),
            },
            errors: RewardErrors::of(&[row], None),
        }
    }

    #[test]
    fn a_record_is_read_under_its_own_conditions_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (avx2, other) = (record("avx2"), record("avx512").conditions);
        assert_eq!(Record::read(folder.path(), &avx2.conditions), None);
        avx2.write(folder.path()).unwrap();
        let read = Record::read(folder.path(), &avx2.conditions).unwrap();
        assert_eq!(read.errors.to_string(), avx2.errors.to_string());
        assert_eq!(Record::read(folder.path(), &other), None);
        fs::write(folder.path().join(RECORD_FILE), "{").unwrap();
        assert_eq!(Record::read(folder.path(), &avx2.conditions), None);
    }
}
