//! `metrics.jsonl`: one object per logged step. A run that resumes from a checkpoint first removes the records after
//! it, so that no step is recorded twice.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

/// Name of the file in the output folder.
pub(crate) const FILE: &str = "metrics.jsonl";

/// The open file.
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file in `output` after the records of step `step`; later records are removed.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn open(output: &Path, step: usize) -> Result<Self> {
        let path = output.join(FILE);
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&path)?;
            let kept = recorded(&std::fs::read(&path)?, step);
            file.set_len(kept)?;
            file.seek(SeekFrom::Start(kept))?;
            Ok(file)
        };
        let file = open().map_err(|e: std::io::Error| at(&path, e))?;
        Ok(Self { path, file })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn write(&mut self, record: &Value) -> Result<()> {
        let line = format!("{record}\n");
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|e| at(&self.path, e))
    }

    /// Waits until all records are on the disk, before a checkpoint that refers to them is written.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| at(&self.path, e))
    }
}

fn at(path: &Path, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(path.display().to_string())
}

/// Byte length of the complete records up to step `step`. Steps of a file never decrease.
fn recorded(bytes: &[u8], step: usize) -> u64 {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let is_kept = |line: &&[u8]| {
        line.ends_with(b"\n")
            && serde_json::from_slice::<Value>(line)
                .is_ok_and(|record| record["step"].as_u64().is_some_and(|of| of <= step as u64))
    };
    lines
        .take_while(is_kept)
        .map(|line| line.len() as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_after_the_checkpoint_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let log = |metrics: &mut Metrics, steps: &[usize]| {
            for step in steps {
                metrics.write(&json!({ "step": step })).unwrap();
            }
        };
        log(&mut Metrics::open(folder.path(), 0).unwrap(), &[1, 2, 2, 3]);
        log(&mut Metrics::open(folder.path(), 2).unwrap(), &[3]);
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "{\"step\":1}\n{\"step\":2}\n{\"step\":2}\n{\"step\":3}\n";
        assert_eq!(text, expected);
        // As after a power failure during a write.
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        Metrics::open(folder.path(), 9).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text[..text.len() - 11]
        );
    }
}
