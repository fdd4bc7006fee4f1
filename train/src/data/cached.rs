//! The images that need not be decoded again: shared by the loader, which asks, and the feature cache, which answers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The images whose features are kept, by content, and their numbers of tiles: they need not be decoded again.
#[derive(Default)]
pub struct CachedIndex(Mutex<HashMap<String, usize>>);

impl CachedIndex {
    /// The number of tiles of an image that is kept.
    pub(crate) fn tiles(&self, content: &str) -> Option<usize> {
        self.lock().get(content).copied()
    }

    pub(crate) fn add(&self, content: &str, tiles: usize) {
        self.lock().insert(content.to_owned(), tiles);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
