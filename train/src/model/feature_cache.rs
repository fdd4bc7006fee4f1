//! Cached features of images from a frozen vision model: in memory first, then on the disk, both bounded.
//!
//! Each image is encoded alone, so its features do not depend on its neighbours: a run that resumes without the cache
//! computes the same bits. Entries are never evicted: with one pass per epoch, LRU would evict exactly the entry needed
//! next.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seeward_models::image::{Extent, Pixels};
use seeward_models::{Error, Result};
use tch::{Device, Kind, Tensor};

use crate::data::cached::CachedIndex;
use crate::data::inputs::{Image, WHITE};
use crate::libtorch::parameters::little_endian;
use crate::progress;

/// The layout of the features of one [unit](Extent::units) of an image: a tile, or a token of a grid.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Tokens and width.
    pub(crate) shape: [i64; 2],
    /// Element type.
    pub(crate) kind: Kind,
}

impl Layout {
    fn bytes_of_unit(&self) -> u64 {
        self.shape.iter().product::<i64>() as u64 * self.kind.elt_size_in_bytes() as u64
    }
}

/// The features of one branch's images.
pub struct FeatureCache {
    layout: Layout,
    cached: Arc<CachedIndex>,
    memory: RefCell<HashMap<String, Tensor>>,
    /// Remaining bytes of the memory budget.
    left: Cell<u64>,
    disk: RefCell<Option<Disk>>,
    encoded: Cell<usize>,
}

impl FeatureCache {
    /// An empty cache of up to `memory` bytes of RAM. It enters its images into `cached`, which the loader asks.
    pub fn new(layout: Layout, cached: Arc<CachedIndex>, memory: u64) -> Self {
        Self {
            layout,
            cached,
            memory: RefCell::default(),
            left: Cell::new(memory),
            disk: RefCell::new(None),
            encoded: Cell::new(0),
        }
    }

    /// The number of tiles that were encoded because the cache lacked them.
    pub fn encoded(&self) -> usize {
        self.encoded.get()
    }

    /// Extends the cache by up to `bytes` in the folder `at`. Files of an earlier run are used if they have the same
    /// `identity`, and removed if not.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn open_disk(&self, at: &Path, identity: &str, bytes: u64) -> Result<()> {
        let mut disk = Disk {
            folder: at.to_owned(),
            identity: identity.to_owned(),
            left: bytes,
        };
        for (content, extent) in disk.found(self.layout.bytes_of_unit())? {
            self.cached.add(&content, extent);
        }
        *self.disk.borrow_mut() = Some(disk);
        Ok(())
    }

    /// The features of `image` on the CPU, `[units, tokens, width]`; `encode` computes those that are not cached.
    ///
    /// # Errors
    /// An error of `encode`, or a cached file that is missing.
    pub(crate) fn of(
        &self,
        image: &Image,
        encode: impl FnOnce(&Pixels) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if let Some(features) = self.memory.borrow().get(&image.content) {
            return Ok(features.shallow_clone());
        }
        if self.cached.extent(&image.content).is_some() {
            return self.read(image);
        }
        let Some(pixels) = &image.pixels else {
            return Err(Error::invalid("an image without pixels or cached features"));
        };
        self.encoded.set(self.encoded.get() + image.extent.tiles());
        let features = encode(pixels)?.detach().to_device(Device::Cpu);
        self.keep(image, &features);
        Ok(features)
    }

    fn keep(&self, image: &Image, features: &Tensor) {
        let bytes = self.layout.bytes_of_unit() * image.extent.units() as u64;
        let in_memory = bytes <= self.left.get();
        // The white image is part of every row.
        if in_memory || image.content == WHITE {
            self.left.set(self.left.get().saturating_sub(bytes));
            let mut memory = self.memory.borrow_mut();
            memory.insert(image.content.clone(), features.shallow_clone());
        } else if !self.write(image, features, bytes) {
            return;
        }
        self.cached.add(&image.content, image.extent);
    }

    /// Whether the disk took it. After a failure it is not used again.
    fn write(&self, image: &Image, features: &Tensor, bytes: u64) -> bool {
        let mut disk = self.disk.borrow_mut();
        let Some(open) = disk.as_mut().filter(|disk| bytes <= disk.left) else {
            return false;
        };
        let values = little_endian(features, self.layout.kind);
        match open.write(image, &values) {
            Ok(()) => true,
            Err(error) => {
                progress::log(format!(
                    "warning: {error}: no more image features are cached on the disk"
                ));
                open.left = 0;
                false
            }
        }
    }

    fn read(&self, image: &Image) -> Result<Tensor> {
        let disk = self.disk.borrow();
        let Some(disk) = disk.as_ref() else {
            return Err(Error::invalid("the cached features of an image are lost"));
        };
        let path = disk.path(image);
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let [tokens, width] = self.layout.shape;
        let shape = [image.extent.units() as i64, tokens, width];
        Tensor::f_from_data_size(&bytes, &shape, self.layout.kind)
            .map_err(|e| Error::invalid(e).at(path.display()))
    }
}

/// A folder with one file per image.
struct Disk {
    folder: PathBuf,
    /// A hash of everything that features depend on except the image.
    identity: String,
    /// Bytes that may still be written.
    left: u64,
}

impl Disk {
    /// Contents and extents of the usable files, which have `unit` bytes for each unit; the others are removed.
    fn found(&mut self, unit: u64) -> Result<Vec<(String, Extent)>> {
        let failed = |e| Error::io(&self.folder, e);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let (mut found, mut taken) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let length = entry.metadata().map_err(failed)?.len();
            let name = entry.file_name().to_string_lossy().into_owned();
            let own = name.strip_prefix(&format!("{}-", self.identity));
            let is_whole = |extent: Extent| length > 0 && length == extent.units() as u64 * unit;
            match own.and_then(named).filter(|(_, extent)| is_whole(*extent)) {
                Some(image) => {
                    found.push(image);
                    taken += length;
                }
                None => fs::remove_file(entry.path()).map_err(failed)?,
            }
        }
        self.left = self.left.saturating_sub(taken);
        Ok(found)
    }

    fn path(&self, image: &Image) -> PathBuf {
        let (identity, content) = (&self.identity, &image.content);
        let extent = match image.extent {
            Extent::Tiles(count) => count.to_string(),
            Extent::Grid { rows, columns } => format!("{rows}x{columns}"),
        };
        self.folder.join(format!("{identity}-{extent}-{content}"))
    }

    /// Writes a file atomically, unless the machine crashes; a truncated file is recognised by its length.
    fn write(&mut self, image: &Image, bytes: &[u8]) -> Result<()> {
        let (path, partial) = (self.path(image), self.folder.join("partial"));
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|e| Error::io(&path, e))?;
        self.left -= bytes.len() as u64;
        Ok(())
    }
}

/// The image in the rest of a file's name: its extent, and the hash of its content.
fn named(rest: &str) -> Option<(String, Extent)> {
    let (extent, content) = rest.split_once('-')?;
    let extent = match extent.split_once('x') {
        None => Extent::Tiles(extent.parse().ok()?),
        Some((rows, columns)) => Extent::Grid {
            rows: rows.parse().ok()?,
            columns: columns.parse().ok()?,
        },
    };
    Some((content.to_owned(), extent))
}
