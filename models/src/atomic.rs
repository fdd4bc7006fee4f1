//! Files and folders that are complete or absent: written under another name, synced, then renamed into place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Replaces the folder `target` by a new one that `fill` writes. When `fill` or the disk fails, `target` is
/// unchanged.
///
/// # Errors
/// Those of `fill`; the disk's.
pub fn replace_folder<E: From<Error>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let fresh = sibling(target, "partial")?;
    remove_folder(&fresh)?;
    fs::create_dir_all(&fresh).map_err(|e| Error::io(&fresh, e))?;
    let filled = fill(&fresh).and_then(|()| Ok(sync_folder(&fresh)?));
    if let Err(error) = filled {
        // The cause matters more than a second failure during cleanup.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    Ok(swap(&fresh, target)?)
}

/// Replaces the file `target` by `bytes`. When the disk fails, `target` is unchanged.
///
/// # Errors
/// The disk's; a `target` that is not a regular file, such as a device.
pub fn replace_file(target: &Path, bytes: &[u8]) -> Result<()> {
    replace_file_with(target, |file| file.write_all(bytes))
}

/// Replaces the file `target` by what `fill` writes. When `fill` or the disk fails, `target` is unchanged.
///
/// # Errors
/// As [`replace_file`], and those of `fill`.
pub fn replace_file_with(
    target: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::invalid("expected a file to replace").at(target.display()));
    }
    let fresh = sibling(target, "partial")?;
    let write = || {
        let mut file = File::create(&fresh)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&fresh, target)
    };
    write().map_err(|e| {
        // The cause matters more than a second failure during cleanup.
        let _ = fs::remove_file(&fresh);
        Error::io(target, e)
    })
}

/// Moves `fresh` to `target`; between the two renames only the old folder's name is gone, never its content.
fn swap(fresh: &Path, target: &Path) -> Result<()> {
    let old = sibling(target, "old")?;
    remove_folder(&old)?;
    if target.exists() {
        fs::rename(target, &old).map_err(|e| Error::io(target, e))?;
    }
    fs::rename(fresh, target).map_err(|e| Error::io(target, e))?;
    sync_parent(target)?;
    remove_folder(&old)
}

/// A hidden path next to `target`, in a folder that exists.
fn sibling(target: &Path, suffix: &str) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::invalid("expected a name").at(target.display()))?;
    let parent = target.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    }
    Ok(parent.join(format!(".{}.{suffix}", name.to_string_lossy())))
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder, e)),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_dir() {
            sync_folder(&path)?
        } else {
            sync(&path)?
        }
    }
    sync(folder)
}

fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_the_old_folder_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("bundle");
        replace_folder(&target, |f| replace_file(&f.join("a"), b"old")).unwrap();
        let failed = replace_folder(&target, |f| {
            replace_file(&f.join("a"), b"new")?;
            Err(Error::invalid("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read(target.join("a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for target in [&link, root.path()] {
            let error = replace_file(target, b"x").unwrap_err().to_string();
            assert!(error.ends_with("expected a file to replace"), "{error}");
        }
        assert!(link.is_symlink());
    }

    #[test]
    fn a_replaced_folder_keeps_nothing_of_the_old_one() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("bundle");
        replace_folder(&target, |f| replace_file(&f.join("a"), b"1")).unwrap();
        replace_folder(&target, |f| replace_file(&f.join("b"), b"2")).unwrap();
        assert!(!target.join("a").exists() && target.join("b").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
