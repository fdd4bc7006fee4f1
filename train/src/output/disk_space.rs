//! Disk space, checked before anything is written.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Checks that the disk has `bytes` bytes of space for `name` in `folder`.
///
/// # Errors
/// Not enough space; the message has the bytes needed and available.
pub(crate) fn require(folder: &Path, name: &str, bytes: u64) -> Result<()> {
    let disk =
        rustix::fs::statvfs(folder).with_context(|| folder.join(name).display().to_string())?;
    // File systems that report no size, such as some network ones, do not know their free space.
    let available = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        disk.f_blocks == 0 || bytes <= available,
        "{}: not enough disk space: {bytes} bytes are needed, {available} are available \
         (save_total_limit keeps fewer checkpoints)",
        folder.join(name).display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_any_disk_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        require(folder.path(), "checkpoint-1", 1).unwrap();
        let error = require(folder.path(), "checkpoint-1", u64::MAX).unwrap_err();
        let message = error.to_string();
        let path = folder.path().join("checkpoint-1");
        assert!(message.starts_with(&path.display().to_string()));
        assert!(message.contains(&format!("{} bytes are needed, ", u64::MAX)));
    }
}
