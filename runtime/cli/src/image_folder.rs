//! The folder of a row's images.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::{Error, rows};

/// The folder that `img_path` is relative to.
#[derive(Clone, Debug)]
pub(super) struct ImageFolder {
    root: PathBuf,
    /// The root without symbolic links, if no path may leave it.
    fence: Option<PathBuf>,
}

impl ImageFolder {
    /// The folder `root`, else the folder of `input`, which for a pipe is the current one. Paths may not leave a given root unless `allow_outside`.
    ///
    /// # Errors
    /// No such folder.
    pub(super) fn new(root: Option<PathBuf>, allow_outside: bool, input: &Path) -> Result<Self> {
        let Some(root) = root else {
            return Ok(Self {
                root: rows::image_folder(input).to_owned(),
                fence: None,
            });
        };
        if !root.is_dir() {
            anyhow::bail!("--image-root {}: no such folder", root.display());
        }
        let fence = match allow_outside {
            true => None,
            false => Some(real(&root)?),
        };
        Ok(Self { root, fence })
    }

    /// The file for the path of a row.
    ///
    /// # Errors
    /// The path leaves the root.
    pub(super) fn resolve(&self, path: &str) -> seeward_models::Result<PathBuf> {
        let file = self.root.join(path);
        let fence = self.fence.as_deref();
        if fence.is_some_and(|fence| leads_out(Path::new(path)) || links_out(&file, fence)) {
            let problem = "leads out of the image root (--allow-outside-root permits it)";
            return Err(Error::invalid(problem).at(format!("image {path}")));
        }
        Ok(file)
    }

    /// Whether paths may not leave the folder.
    pub(super) fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// The canonical path of the folder.
    ///
    /// # Errors
    /// No such folder.
    pub(super) fn identity(&self) -> Result<String> {
        let root = match self.root.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.root,
        };
        Ok(real(root)?.to_string_lossy().into_owned())
    }
}

fn real(folder: &Path) -> Result<PathBuf> {
    let real = folder.canonicalize();
    real.with_context(|| folder.display().to_string())
}

fn leads_out(path: &Path) -> bool {
    !path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Whether symbolic links lead from `file` out of the folder `fence`; not for a missing file.
fn links_out(file: &Path, fence: &Path) -> bool {
    file.canonicalize()
        .is_ok_and(|file| !file.starts_with(fence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_folder_of_the_input() {
        let folder = ImageFolder::new(None, false, Path::new("data/rows.jsonl")).unwrap();
        let resolve = |path| folder.resolve(path).unwrap();
        assert_eq!(resolve("a.png"), Path::new("data/a.png"));
        assert_eq!(resolve("../a.png"), Path::new("data/../a.png"));
        assert_eq!(resolve("/x/a.png"), Path::new("/x/a.png"));
    }

    #[test]
    fn a_given_root_is_a_fence() {
        let here = || Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let fence = ImageFolder::new(here(), false, Path::new("rows.jsonl")).unwrap();
        assert!(fence.resolve("photos/./a..b.png").is_ok());
        for path in ["../a.png", "photos/../../a.png", "/etc/a.png"] {
            let message = fence.resolve(path).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("image {path}: leads out")),
                "{message}"
            );
        }
        let open = ImageFolder::new(here(), true, Path::new("rows.jsonl")).unwrap();
        assert_eq!(open.resolve("/x/a.png").unwrap(), Path::new("/x/a.png"));
    }

    #[test]
    fn links_may_not_leave_a_fence() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("a.png"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&outside, "").unwrap();
        std::fs::write(root.join("b.png"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out.png")).unwrap();
        std::os::unix::fs::symlink("b.png", root.join("in.png")).unwrap();
        // The root itself may be reached by a link.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let fence = ImageFolder::new(Some(link.clone()), false, Path::new("i")).unwrap();
        assert!(fence.resolve("out.png").is_err());
        assert!(fence.resolve("in.png").is_ok() && fence.resolve("none.png").is_ok());
        let open = ImageFolder::new(Some(link), true, Path::new("i")).unwrap();
        assert!(open.resolve("out.png").is_ok());
    }

    #[test]
    fn a_missing_root_is_refused() {
        assert!(ImageFolder::new(Some("no/such".into()), false, Path::new("i")).is_err());
    }
}
