//! Keys that the user declares plain data.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Keys that the user declares plain data (`--carry KEY`), whatever their names suggest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedKeys(Arc<BTreeSet<String>>);

impl CarriedKeys {
    /// The keys, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains(key)
    }
}

impl<S: Into<String>> FromIterator<S> for CarriedKeys {
    fn from_iter<I: IntoIterator<Item = S>>(keys: I) -> Self {
        Self(Arc::new(keys.into_iter().map(Into::into).collect()))
    }
}
