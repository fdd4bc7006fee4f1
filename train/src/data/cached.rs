//! The index of cached images: the feature cache adds to it, the loader looks images up to avoid decoding them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seeward_models::image::Extent;

/// Contents of the images whose features are cached, with their extents.
#[derive(Default)]
pub struct CachedIndex(Mutex<HashMap<String, Extent>>);

impl CachedIndex {
    /// The extent of an image, if its features are cached.
    pub(crate) fn extent(&self, content: &str) -> Option<Extent> {
        self.lock().get(content).copied()
    }

    /// Adds an image.
    pub(crate) fn add(&self, content: &str, extent: Extent) {
        self.lock().insert(content.to_owned(), extent);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Extent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
