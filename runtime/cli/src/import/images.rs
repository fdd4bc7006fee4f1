//! The images of an import: one file for each content.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::ImageFormat;
use seeward_models::hash::hash;

/// Hexadecimal digits of a name.
const DIGITS: usize = 32;

/// The folder `images/`.
pub(super) struct ImageStore {
    root: PathBuf,
    /// Files that are written but perhaps not on the disk yet.
    unsynced: Vec<PathBuf>,
}

impl ImageStore {
    /// The store in `output`, which is created.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub(super) fn open(output: &Path) -> Result<Self> {
        let folder = output.join("images");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            root: output.to_owned(),
            unsynced: Vec::new(),
        })
    }

    /// Stores an image, with `label` before its name. Returns its path relative to the rows, or what is wrong with it.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        label: Option<&str>,
    ) -> Result<Result<String, String>> {
        let Some(extension) = extension(bytes) else {
            return Ok(Err("not an image of a known format".to_owned()));
        };
        let label = label.map(|label| format!("{label}-")).unwrap_or_default();
        let name = format!("images/{label}{}.{extension}", &hash(bytes)[..DIGITS]);
        let path = self.root.join(&name);
        // A file that a machine failure cut short has another length.
        if path
            .metadata()
            .is_ok_and(|metadata| metadata.len() == bytes.len() as u64)
        {
            return Ok(Ok(name));
        }
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        self.unsynced.push(path);
        Ok(Ok(name))
    }

    /// Waits until all images are on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync(&mut self) -> Result<()> {
        for path in self.unsynced.drain(..) {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// The usual ending of the names of files with this content, if it is an image of a known format.
fn extension(bytes: &[u8]) -> Option<&'static str> {
    match image::guess_format(bytes).ok()? {
        ImageFormat::Png => Some("png"),
        ImageFormat::Jpeg => Some("jpg"),
        ImageFormat::WebP => Some("webp"),
        ImageFormat::Gif => Some("gif"),
        ImageFormat::Bmp => Some("bmp"),
        _ => None,
    }
}
