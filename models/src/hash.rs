//! sha256 of files and folders, in hexadecimal: bundles and checkpoints identify their files by it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// sha256 of some bytes.
pub fn hash(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// sha256 of a file's content, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn file_hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(|e| Error::io(path, e))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// A reader that hashes what is read from it.
#[derive(Debug)]
pub struct HashedReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: BufRead> HashedReader<R> {
    /// A reader of `inner`, of which nothing is hashed yet.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }

    /// sha256 of the bytes read so far.
    pub fn hash(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }
}

impl<R: BufRead> Read for HashedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for HashedReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // The consumed bytes are buffered already, so this reads nothing and cannot fail.
        let filled = self.inner.fill_buf().unwrap_or_default();
        self.hasher.update(&filled[..amount]);
        self.inner.consume(amount);
    }
}

/// Adds the sha256 of every file below `folder`, by relative path, that `hashes` does not have yet.
///
/// # Errors
/// A file or folder cannot be read.
pub fn add_hashes(folder: &Path, hashes: &mut BTreeMap<String, String>) -> Result<()> {
    add_folder(folder, "", hashes)
}

/// Adds the files below `folder` with `prefix` before their relative paths.
fn add_folder(folder: &Path, prefix: &str, hashes: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let (path, name) = (
            entry.path(),
            format!("{prefix}{}", entry.file_name().to_string_lossy()),
        );
        if path.is_dir() {
            add_folder(&path, &format!("{name}/"), hashes)?;
        } else if let Entry::Vacant(new) = hashes.entry(name) {
            new.insert(file_hash(&path)?);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The "abc" of FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_folder_is_known_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/file"), "abc").unwrap();
        fs::write(folder.path().join("known"), "").unwrap();
        let mut hashes = BTreeMap::from([("known".into(), "before".into())]);
        add_hashes(folder.path(), &mut hashes).unwrap();
        let expected = [
            ("known".into(), "before".into()),
            ("sub/file".into(), ABC.into()),
        ];
        assert_eq!(hashes, BTreeMap::from(expected));
        assert_eq!(hash("abc"), ABC);
        let mut reader = HashedReader::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.hash(), ABC);
    }
}
