//! Image embeddings by content, the least recently used ones evicted: an image that comes again is not encoded again.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::Array2;
use seeward_models::image::Extent;

use crate::Result;

/// An image as the vision graph encoded it.
#[derive(Debug, PartialEq)]
pub(crate) struct EncodedImage {
    pub(crate) extent: Extent,
    /// Its embeddings: `[rows, width]`.
    pub(crate) rows: Array2<f32>,
}

/// The same, shared by the cache and its users.
pub(crate) type Encoded = Arc<EncodedImage>;

/// The state of a model's cache of image embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageCacheUsage {
    /// Images in the cache.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Images that were found so far.
    pub hits: u64,
    /// Images that had to be encoded.
    pub misses: u64,
    /// Images that were removed to make room.
    pub evictions: u64,
}

/// Of several models.
impl AddAssign for ImageCacheUsage {
    fn add_assign(&mut self, other: Self) {
        self.images += other.images;
        self.bytes += other.bytes;
        self.hits += other.hits;
        self.misses += other.misses;
        self.evictions += other.evictions;
    }
}

/// Embeddings up to a number of bytes.
pub(crate) struct ImageCache {
    capacity: u64,
    state: Mutex<State>,
    /// Held while an image is encoded, so that callers with the same image wait for the first. Runs of the vision graph take
    /// turns in any case.
    encoding: Mutex<()>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, String>,
    clock: u64,
    usage: ImageCacheUsage,
}

struct Entry {
    encoded: Encoded,
    used: u64,
}

impl ImageCache {
    /// A cache of this many bytes, if there are any.
    pub(crate) fn new(capacity: u64) -> Option<Self> {
        (capacity > 0).then(|| Self {
            capacity,
            state: Mutex::default(),
            encoding: Mutex::default(),
        })
    }

    /// The embeddings of the image with this key.
    pub(crate) fn get(&self, key: &str) -> Option<Encoded> {
        let mut state = self.lock();
        let found = state.touch(key)?;
        state.usage.hits += 1;
        Some(found)
    }

    /// The same, encoded and stored if the image is not in the cache.
    ///
    /// # Errors
    /// Those of `encode`.
    pub(crate) fn get_or_encode(
        &self,
        key: &str,
        encode: impl FnOnce() -> Result<EncodedImage>,
    ) -> Result<Encoded> {
        let _turn = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.get(key) {
            return Ok(found);
        }
        let encoded = Arc::new(encode()?);
        let mut state = self.lock();
        state.usage.misses += 1;
        state.insert(key.to_owned(), encoded.clone(), self.capacity);
        Ok(encoded)
    }

    pub(crate) fn usage(&self) -> ImageCacheUsage {
        self.lock().usage
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn touch(&mut self, key: &str) -> Option<Encoded> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        let key = self.order.remove(&entry.used)?;
        entry.used = self.clock;
        self.order.insert(entry.used, key);
        Some(entry.encoded.clone())
    }

    /// Stores an image that is not in the cache, unless it is larger than the whole cache.
    fn insert(&mut self, key: String, encoded: Encoded, capacity: u64) {
        let bytes = bytes(&encoded);
        if bytes > capacity {
            return;
        }
        while self.usage.bytes + bytes > capacity && self.evict() {}
        self.clock += 1;
        let used = self.clock;
        self.order.insert(used, key.clone());
        self.entries.insert(key, Entry { encoded, used });
        self.usage.bytes += bytes;
        self.usage.images += 1;
    }

    /// Removes the least recently used image, if there is one.
    fn evict(&mut self) -> bool {
        let oldest = self.order.pop_first();
        let removed = oldest.and_then(|(_, key)| self.entries.remove(&key));
        if let Some(entry) = &removed {
            self.usage.bytes -= bytes(&entry.encoded);
            self.usage.images -= 1;
            self.usage.evictions += 1;
        }
        removed.is_some()
    }
}

fn bytes(encoded: &Encoded) -> u64 {
    (encoded.rows.len() * size_of::<f32>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// 40 bytes.
    fn image(value: f32) -> EncodedImage {
        EncodedImage {
            extent: Extent::Tiles(1),
            rows: Array2::from_elem((5, 2), value),
        }
    }

    fn encode(cache: &ImageCache, key: &str) -> bool {
        let mut is_new = false;
        let encoded = cache.get_or_encode(key, || {
            is_new = true;
            Ok(image(key.len() as f32))
        });
        assert_eq!(*encoded.unwrap(), image(key.len() as f32));
        is_new
    }

    #[test]
    fn the_least_recently_used_image_is_evicted() {
        let cache = ImageCache::new(100).unwrap();
        assert!(encode(&cache, "a") && encode(&cache, "bb"));
        assert!(!encode(&cache, "a") && cache.get("a").is_some());
        assert!(encode(&cache, "ccc"), "the third needs the second's room");
        assert!(!encode(&cache, "a") && cache.get("bb").is_none());
        let expected = ImageCacheUsage {
            images: 2,
            bytes: 80,
            hits: 3,
            misses: 3,
            evictions: 1,
        };
        assert_eq!(cache.usage(), expected);
    }

    #[test]
    fn images_larger_than_the_cache_are_not_stored() {
        let cache = ImageCache::new(39).unwrap();
        assert!(encode(&cache, "a") && encode(&cache, "a"));
        assert_eq!(cache.usage().images, 0);
        assert!(ImageCache::new(0).is_none());
    }

    #[test]
    fn a_failed_image_is_encoded_again() {
        let cache = ImageCache::new(100).unwrap();
        let failed = cache.get_or_encode("a", || Err(Error::Panicked));
        assert!(failed.is_err() && encode(&cache, "a"));
    }

    #[test]
    fn callers_with_one_image_wait_for_the_first() {
        let cache = ImageCache::new(100).unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let encoded = cache.get_or_encode("a", || {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        Ok(image(1.0))
                    });
                    assert!(encoded.is_ok());
                });
            }
        });
        assert_eq!(count.into_inner(), 1);
    }
}
