//! A file that is hashed and written while its next bytes are made: blocks of memory go round, from who fills them to a
//! thread that hashes, on to one that writes, and back.
//!
//! Whole blocks go to the disk past the page cache where the file system allows that. Copying into fresh pages of the
//! cache would cost more than reading, casting and hashing together, and the gigabytes would drive out what others read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rustix::fs::OFlags;
use seeward_models::{Error, Result};
use sha2::{Digest, Sha256};

/// Bytes of a block.
const BLOCK: usize = 4 << 20;
/// Blocks that go round: two are worked on while one is filled, and one lies between.
const BLOCKS: usize = 4;
/// Opens past the page cache.
const DIRECT: i32 = OFlags::DIRECT.bits() as i32;
/// Where memory must begin that a disk takes directly.
const ALIGNMENT: usize = 4096;

/// A new file.
pub(crate) struct HashedFile {
    path: PathBuf,
    block: Block,
    full: Sender<Block>,
    written: Receiver<io::Result<Block>>,
    hashing: JoinHandle<Sha256>,
}

impl HashedFile {
    /// Makes the file, or empties it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut output = Output::create(path).map_err(|e| Error::io(path, e))?;
        let (full, to_hash) = mpsc::channel();
        let (hashed, to_write) = mpsc::channel();
        let (back, written) = mpsc::channel();
        for _ in 1..BLOCKS {
            let _ = back.send(Ok(Block::new()));
        }
        let hashing = thread::spawn(move || hash(&to_hash, &hashed));
        // What becomes of it is heard by block.
        thread::spawn(move || {
            for block in to_write {
                let done = output.write(block);
                let failed = done.is_err();
                if back.send(done).is_err() || failed {
                    break;
                }
            }
        });
        Ok(Self {
            path: path.to_owned(),
            block: Block::new(),
            full,
            written,
            hashing,
        })
    }

    /// Appends `bytes`, once there is room for them. What fails shows in a later call, in the last at the latest.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            bytes = self.block.fill(bytes);
            if self.block.filled == BLOCK {
                let next = self.next_block()?;
                let _ = self.full.send(std::mem::replace(&mut self.block, next));
            }
        }
        Ok(())
    }

    /// sha256 of everything that was appended, once it is written.
    pub(crate) fn finish(self) -> Result<String> {
        let _ = self.full.send(self.block);
        drop(self.full);
        for done in self.written {
            done.map_err(|e| Error::io(&self.path, e))?;
        }
        let hasher = self.hashing.join();
        let hash = hasher
            .unwrap_or_else(|panic| resume_unwind(panic))
            .finalize();
        Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn next_block(&self) -> Result<Block> {
        let ended = |_| Err(io::Error::other("the thread that writes has ended"));
        let next = self.written.recv().unwrap_or_else(ended);
        next.map_err(|e| Error::io(&self.path, e))
    }
}

fn hash(full: &Receiver<Block>, hashed: &Sender<Block>) -> Sha256 {
    let mut hasher = Sha256::new();
    for block in full {
        hasher.update(block.bytes());
        if hashed.send(block).is_err() {
            break;
        }
    }
    hasher
}

/// Memory that begins where a disk wants it.
struct Block {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Block {
    fn new() -> Self {
        let memory = vec![0; BLOCK + ALIGNMENT];
        Self {
            start: memory.as_ptr().align_offset(ALIGNMENT),
            memory,
            filled: 0,
        }
    }

    /// Takes what it has room for, and returns the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (some, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        let from = self.start + self.filled;
        self.memory[from..from + some.len()].copy_from_slice(some);
        self.filled += some.len();
        rest
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }
}

/// The file, and a second way to it, past the page cache, for whole blocks.
struct Output {
    file: File,
    direct: Option<File>,
    end: u64,
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let mut direct = OpenOptions::new();
        // Where it cannot be had, the first way serves for all.
        let direct = direct.write(true).custom_flags(DIRECT).open(path).ok();
        Ok(Self {
            file,
            direct,
            end: 0,
        })
    }

    /// Appends the block and returns it empty.
    fn write(&mut self, mut block: Block) -> io::Result<Block> {
        let bytes = block.bytes();
        if !self.write_directly(bytes)? {
            self.file.write_all_at(bytes, self.end)?;
        }
        self.end += bytes.len() as u64;
        block.filled = 0;
        Ok(block)
    }

    /// Whether it was possible.
    fn write_directly(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(direct) = self.direct.as_ref().filter(|_| bytes.len() == BLOCK) else {
            return Ok(false);
        };
        match direct.write_all_at(bytes, self.end) {
            // A file system may say so only now.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                self.direct = None;
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use seeward_models::hash::file_hash;

    use super::*;

    #[test]
    fn the_hash_is_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = HashedFile::create(&path).unwrap();
        let pieces = [
            vec![],
            vec![7; 3],
            vec![1; BLOCK],
            vec![2; 5],
            vec![3; 9 * BLOCK],
        ];
        pieces.iter().for_each(|piece| file.append(piece).unwrap());
        assert_eq!(file.finish().unwrap(), file_hash(&path).unwrap());
        assert!(std::fs::read(path).unwrap() == pieces.concat());
    }

    #[test]
    fn a_file_of_whole_blocks_ends_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = HashedFile::create(&path).unwrap();
        file.append(&vec![5; 2 * BLOCK]).unwrap();
        assert_eq!(file.finish().unwrap(), file_hash(&path).unwrap());
        assert_eq!(std::fs::metadata(path).unwrap().len(), 2 * BLOCK as u64);
    }

    /// This device is always full.
    #[test]
    fn what_the_disk_refuses_is_told_with_the_path() {
        let path = Path::new("/dev/full");
        for bytes in [1, 2 * BLOCK * BLOCKS] {
            let mut file = HashedFile::create(path).unwrap();
            let appended = file.append(&vec![1; bytes]);
            let told = appended.and_then(|()| file.finish().map(drop));
            let text = told.unwrap_err().to_string();
            assert!(text.starts_with("/dev/full"), "{text}");
        }
    }

    #[test]
    fn without_a_direct_way_the_same_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut output = Output::create(&path).unwrap();
        output.direct = None;
        let mut block = Block::new();
        block.fill(&vec![9; BLOCK]);
        let mut block = output.write(block).unwrap();
        block.fill(&[8]);
        output.write(block).unwrap();
        assert!(std::fs::read(path).unwrap() == [vec![9; BLOCK], vec![8]].concat());
    }
}
