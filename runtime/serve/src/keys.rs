//! API keys: bearer tokens, compared by their hashes, whose bytes say nothing about the keys'.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// The keys that requests may carry; without any, requests need none.
#[derive(Clone, Default)]
pub(crate) struct Keys(Vec<Hash>);

impl Keys {
    /// One key a line; empty lines and comments (`#`) are skipped.
    ///
    /// # Errors
    /// The file cannot be read or has no key.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("--api-key-file {}", path.display()))?;
        let keys = Self::of(text.lines());
        if keys.0.is_empty() {
            bail!(
                "--api-key-file {}: expected a key on a line, got none",
                path.display()
            );
        }
        Ok(keys)
    }

    /// The keys among some lines.
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let keys = lines.map(str::trim);
        let keys = keys.filter(|key| !key.is_empty() && !key.starts_with('#'));
        Self(keys.map(hash).collect())
    }

    /// Whether requests need none.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with these headers may pass.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let key = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let key = key.and_then(|value| value.split_once(' '));
        match key {
            _ if self.is_open() => true,
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.holds(&hash(key.trim()))
            }
            _ => false,
        }
    }

    /// Compares with every key, whatever it finds.
    fn holds(&self, hash: &Hash) -> bool {
        let equal = self.0.iter().map(|known| is_equal(known, hash));
        equal.fold(false, |found, equal| found | equal)
    }
}

/// Never the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key).into()
}

/// Takes the same time wherever they differ.
fn is_equal(left: &Hash, right: &Hash) -> bool {
    let pairs = left.iter().zip(right);
    std::hint::black_box(pairs.fold(0, |differs, (l, r)| differs | (l ^ r))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(keys: &Keys, value: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        keys.admit(&headers)
    }

    #[test]
    fn only_the_keys_of_the_file_pass() {
        let keys = Keys::of("# trainers\n\n first \nsecond".lines());
        for key in ["Bearer first", "bearer second", "BEARER  second"] {
            assert!(admits(&keys, Some(key)), "{key}");
        }
        for key in [
            "Bearer firs",
            "Bearer # trainers",
            "Bearer ",
            "Basic first",
            "first",
        ] {
            assert!(!admits(&keys, Some(key)), "{key}");
        }
        assert!(!admits(&keys, None) && admits(&Keys::default(), None));
        assert_eq!(format!("{keys:?}"), "Keys(2)");
    }

    #[test]
    fn a_file_without_keys_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# none\n").unwrap();
        let error = Keys::read(file.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("expected a key on a line, got none"),
            "{error}"
        );
        assert!(Keys::read(Path::new("no/such")).is_err());
    }
}
