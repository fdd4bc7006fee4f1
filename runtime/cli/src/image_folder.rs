//! Where the images of a row are.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::Error;

/// The folder that `img_path` is relative to.
pub(super) struct ImageFolder {
    root: PathBuf,
    /// Whether paths may not lead out of it: a root that is named is a fence.
    fenced: bool,
}

impl ImageFolder {
    /// The folder `root`, else that of the input.
    pub(super) fn new(root: Option<PathBuf>, allow_outside: bool, input: &Path) -> Result<Self> {
        let Some(root) = root else {
            return Ok(Self {
                root: input.parent().map(Path::to_owned).unwrap_or_default(),
                fenced: false,
            });
        };
        if !root.is_dir() {
            anyhow::bail!("--image-root {}: no such folder", root.display());
        }
        Ok(Self {
            root,
            fenced: !allow_outside,
        })
    }

    /// The file that a row calls `path`.
    pub(super) fn resolve(&self, path: &str) -> seeward_models::Result<PathBuf> {
        if self.fenced && leads_out(Path::new(path)) {
            let problem = "leads out of the image root (--allow-outside-root permits it)";
            return Err(Error::invalid(problem).at(format!("image {path}")));
        }
        Ok(self.root.join(path))
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// The folder's one name, however it was typed.
    pub(super) fn identity(&self) -> Result<String> {
        let root = match self.root.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.root,
        };
        let root = root
            .canonicalize()
            .with_context(|| root.display().to_string())?;
        Ok(root.to_string_lossy().into_owned())
    }
}

fn leads_out(path: &Path) -> bool {
    !path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_inputs_folder() {
        let folder = ImageFolder::new(None, false, Path::new("data/rows.jsonl")).unwrap();
        let resolve = |path| folder.resolve(path).unwrap();
        assert_eq!(resolve("a.png"), Path::new("data/a.png"));
        assert_eq!(resolve("../a.png"), Path::new("data/../a.png"));
        assert_eq!(resolve("/x/a.png"), Path::new("/x/a.png"));
    }

    #[test]
    fn a_named_root_is_a_fence() {
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
    fn a_missing_root_is_refused() {
        assert!(ImageFolder::new(Some("no/such".into()), false, Path::new("i")).is_err());
    }
}
