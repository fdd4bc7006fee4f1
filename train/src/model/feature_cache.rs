//! Cached features of images from a frozen vision model: on a GPU while it has room, then in RAM, then on the disk, both
//! bounded.
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
use crate::libtorch::memory;
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
    /// The device that computes.
    device: Device,
    /// Whether it has memory for this number of bytes, besides that for computing.
    has_room: Box<dyn Fn(u64) -> bool>,
    memory: RefCell<HashMap<String, Stored>>,
    /// Remaining bytes of the RAM budget.
    left: Cell<u64>,
    disk: RefCell<Option<Disk>>,
    encoded: Cell<usize>,
    copied: Cell<usize>,
}

/// The features of an image in memory.
enum Stored {
    /// On the device.
    Device(Tensor),
    /// In RAM, from where they are copied to the device for every use.
    Ram(Tensor),
}

impl FeatureCache {
    /// An empty cache of up to `ram` bytes of RAM, for features that `device` has no room for. It enters its images into
    /// `cached`, which the loader asks.
    pub fn new(layout: Layout, cached: Arc<CachedIndex>, ram: u64, device: Device) -> Self {
        Self {
            layout,
            cached,
            device,
            has_room: Box::new(move |bytes| memory::has_room(device, bytes)),
            memory: RefCell::default(),
            left: Cell::new(ram),
            disk: RefCell::new(None),
            encoded: Cell::new(0),
            copied: Cell::new(0),
        }
    }

    /// The number of images whose features were copied to the device; on the CPU a copy costs nothing.
    #[cfg(test)]
    fn copied(&self) -> usize {
        self.copied.get()
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

    /// The features of `image` on the device, `[units, tokens, width]`; `encode` computes those that are not cached.
    ///
    /// # Errors
    /// An error of `encode`, or a cached file that is missing.
    pub(crate) fn of(
        &self,
        image: &Image,
        encode: impl FnOnce(&Pixels) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.memory.borrow().get(&image.content) {
            Some(Stored::Device(features)) => return Ok(features.shallow_clone()),
            Some(Stored::Ram(features)) => return Ok(self.copy(features)),
            None => {}
        }
        if self.cached.extent(&image.content).is_some() {
            let features = memory::pinned(&self.read(image)?, self.device);
            return Ok(self.copy(&features));
        }
        let Some(pixels) = &image.pixels else {
            return Err(Error::invalid("an image without pixels or cached features"));
        };
        self.encoded.set(self.encoded.get() + image.extent.tiles());
        let features = encode(pixels)?.detach();
        self.keep(image, &features);
        Ok(features)
    }

    /// Copies features in RAM to the device.
    fn copy(&self, features: &Tensor) -> Tensor {
        self.copied.set(self.copied.get() + 1);
        memory::copy(features, self.device)
    }

    fn keep(&self, image: &Image, features: &Tensor) {
        let bytes = self.layout.bytes_of_unit() * image.extent.units() as u64;
        match self.stored(image, features, bytes) {
            Some(stored) => {
                let mut memory = self.memory.borrow_mut();
                memory.insert(image.content.clone(), stored);
            }
            None if self.write(image, features, bytes) => {}
            None => return,
        }
        self.cached.add(&image.content, image.extent);
    }

    /// The features where memory has room for them.
    fn stored(&self, image: &Image, features: &Tensor, bytes: u64) -> Option<Stored> {
        if (self.has_room)(bytes) {
            return Some(Stored::Device(features.shallow_clone()));
        }
        let taken = memory::pinned_bytes(bytes, self.device);
        // The white image is part of every row.
        if taken > self.left.get() && image.content != WHITE {
            return None;
        }
        self.left.set(self.left.get().saturating_sub(taken));
        Some(Stored::Ram(memory::pinned(features, self.device)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use seeward_models::image::Pixels;

    const UNITS: usize = 2;

    fn cache(images_on_device: u64, images_in_ram: u64) -> FeatureCache {
        let layout = Layout {
            shape: [3, 4],
            kind: Kind::Float,
        };
        let bytes = layout.bytes_of_unit() * UNITS as u64;
        let left = Cell::new(images_on_device * bytes);
        let has_room = move |bytes: u64| {
            let fits = bytes <= left.get();
            left.set(left.get().saturating_sub(bytes));
            fits
        };
        FeatureCache {
            has_room: Box::new(has_room),
            ..FeatureCache::new(layout, Arc::default(), images_in_ram * bytes, Device::Cpu)
        }
    }

    fn image(name: &str) -> Image {
        Image {
            content: name.to_owned(),
            extent: Extent::Tiles(UNITS),
            pixels: Some(Pixels::Tiles(ndarray::Array4::zeros((UNITS, 1, 1, 3)))),
        }
    }

    /// The features of an image are its number.
    fn look_at(cache: &FeatureCache, names: &[&str]) {
        for name in names {
            let value: f64 = name.parse().expect("a number");
            let encode = |_: &Pixels| {
                Ok(Tensor::full(
                    [UNITS as i64, 3, 4],
                    value,
                    (Kind::Float, Device::Cpu),
                ))
            };
            let features = cache.of(&image(name), encode).expect("features");
            assert_eq!(features.size(), [UNITS as i64, 3, 4]);
            assert_eq!(features.mean(Kind::Double).double_value(&[]), value);
        }
    }

    #[test]
    fn features_on_the_device_are_never_copied_and_others_once_for_every_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(2, 1);
        cache
            .open_disk(folder.path(), "identity", 1 << 20)
            .expect("a disk");
        let names = ["1", "2", "3", "4"];
        look_at(&cache, &names);
        // What has just been encoded is on the device.
        assert_eq!((cache.encoded(), cache.copied()), (4 * UNITS, 0));
        look_at(&cache, &names[..2]);
        assert_eq!(cache.copied(), 0);
        look_at(&cache, &names);
        assert_eq!((cache.encoded(), cache.copied()), (4 * UNITS, 2));
        look_at(&cache, &["3", "3", "4"]);
        assert_eq!(cache.copied(), 5);
    }

    #[test]
    fn without_memory_or_disk_nothing_is_kept() {
        let cache = cache(0, 0);
        look_at(&cache, &["1", "1"]);
        assert_eq!((cache.encoded(), cache.copied()), (2 * UNITS, 0));
    }
}
