//! Room on the disk, asked for before anything is written.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Refuses to begin `name` in `folder` where the disk has no room for `bytes`.
///
/// # Errors
/// Not enough room: bytes needed and available are named.
pub(crate) fn require(folder: &Path, name: &str, bytes: u64) -> Result<()> {
    let disk =
        rustix::fs::statvfs(folder).with_context(|| folder.join(name).display().to_string())?;
    // A file system without a size, such as some network ones, does not know what is left.
    let available = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        disk.f_blocks == 0 || bytes <= available,
        "{}: no room on the disk: {bytes} bytes are needed, {available} are available \
         (save_total_limit keeps fewer checkpoints)",
        folder.join(name).display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_holds_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        require(folder.path(), "checkpoint-1", 1).unwrap();
        let error = require(folder.path(), "checkpoint-1", u64::MAX).unwrap_err();
        let message = error.to_string();
        let path = folder.path().join("checkpoint-1");
        assert!(message.starts_with(&path.display().to_string()));
        assert!(message.contains(&format!("{} bytes are needed, ", u64::MAX)));
    }
}
