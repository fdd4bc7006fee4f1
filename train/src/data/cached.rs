//! The index of cached images: the feature cache adds to it, the loader looks images up to avoid decoding them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Contents of the images whose features are cached, with their tile counts.
#[derive(Default)]
pub struct CachedIndex(Mutex<HashMap<String, usize>>);

impl CachedIndex {
    /// The tile count of an image, if its features are cached.
    pub(crate) fn tiles(&self, content: &str) -> Option<usize> {
        self.lock().get(content).copied()
    }

    /// Adds an image.
    pub(crate) fn add(&self, content: &str, tiles: usize) {
        self.lock().insert(content.to_owned(), tiles);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
