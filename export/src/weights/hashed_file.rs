//! A file that is hashed and written while its next bytes are computed: buffers circulate from the caller to a thread that
//! hashes, then to one that writes, and back.
//!
//! Full buffers bypass the page cache where the file system allows that. Copying into new pages of the cache would cost
//! more than reading, casting and hashing together, and the gigabytes would evict other programs' pages.

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

/// Size of a buffer in bytes.
const BUFFER: usize = 4 << 20;
/// Number of buffers: one being filled, one hashed, one written, and a spare one.
const BUFFERS: usize = 4;
/// Flag to bypass the page cache.
const DIRECT: i32 = OFlags::DIRECT.bits() as i32;
/// Alignment of memory for direct writes.
const ALIGNMENT: usize = 4096;

/// A new file.
pub(crate) struct HashedFile {
    path: PathBuf,
    buffer: Buffer,
    full: Sender<Buffer>,
    written: Receiver<io::Result<Buffer>>,
    hashing: JoinHandle<Sha256>,
}

impl HashedFile {
    /// Creates the file, or truncates it.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut output = Output::create(path).map_err(|e| Error::io(path, e))?;
        let (full, to_hash) = mpsc::channel();
        let (hashed, to_write) = mpsc::channel();
        let (back, written) = mpsc::channel();
        for _ in 1..BUFFERS {
            let _ = back.send(Ok(Buffer::new()));
        }
        let hashing = thread::spawn(move || hash(&to_hash, &hashed));
        // Its results come back with the buffers.
        thread::spawn(move || {
            for buffer in to_write {
                let done = output.write(buffer);
                let failed = done.is_err();
                if back.send(done).is_err() || failed {
                    break;
                }
            }
        });
        Ok(Self {
            path: path.to_owned(),
            buffer: Buffer::new(),
            full,
            written,
            hashing,
        })
    }

    /// Appends `bytes`; waits until a buffer is free.
    ///
    /// # Errors
    /// An earlier write failed.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            bytes = self.buffer.fill(bytes);
            if self.buffer.filled == BUFFER {
                let next = self.next_buffer()?;
                let _ = self.full.send(std::mem::replace(&mut self.buffer, next));
            }
        }
        Ok(())
    }

    /// Waits until everything is written, and returns the file's sha256.
    ///
    /// # Errors
    /// A write failed.
    pub(crate) fn finish(self) -> Result<String> {
        let _ = self.full.send(self.buffer);
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

    fn next_buffer(&self) -> Result<Buffer> {
        let ended = |_| Err(io::Error::other("the writing thread has ended"));
        let next = self.written.recv().unwrap_or_else(ended);
        next.map_err(|e| Error::io(&self.path, e))
    }
}

fn hash(full: &Receiver<Buffer>, hashed: &Sender<Buffer>) -> Sha256 {
    let mut hasher = Sha256::new();
    for buffer in full {
        hasher.update(buffer.bytes());
        if hashed.send(buffer).is_err() {
            break;
        }
    }
    hasher
}

/// Memory with the alignment of direct writes.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Buffer {
    fn new() -> Self {
        let memory = vec![0; BUFFER + ALIGNMENT];
        Self {
            start: memory.as_ptr().align_offset(ALIGNMENT),
            memory,
            filled: 0,
        }
    }

    /// Copies as many bytes as fit, and returns the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (some, rest) = bytes.split_at(bytes.len().min(BUFFER - self.filled));
        let from = self.start + self.filled;
        self.memory[from..from + some.len()].copy_from_slice(some);
        self.filled += some.len();
        rest
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }
}

/// The file, opened a second time to write full buffers past the page cache.
struct Output {
    file: File,
    direct: Option<File>,
    end: u64,
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let mut direct = OpenOptions::new();
        // Without it, all buffers go through the cache.
        let direct = direct.write(true).custom_flags(DIRECT).open(path).ok();
        Ok(Self {
            file,
            direct,
            end: 0,
        })
    }

    /// Appends the buffer's bytes and returns it empty.
    fn write(&mut self, mut buffer: Buffer) -> io::Result<Buffer> {
        let bytes = buffer.bytes();
        if !self.write_directly(bytes)? {
            self.file.write_all_at(bytes, self.end)?;
        }
        self.end += bytes.len() as u64;
        buffer.filled = 0;
        Ok(buffer)
    }

    /// Returns whether a direct write was possible.
    fn write_directly(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(direct) = self.direct.as_ref().filter(|_| bytes.len() == BUFFER) else {
            return Ok(false);
        };
        match direct.write_all_at(bytes, self.end) {
            // Some file systems accept the flag and refuse the write.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                self.direct = None;
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use seeward_models::hash::file_hash;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = HashedFile::create(&path).unwrap();
        let chunks = [
            vec![],
            vec![7; 3],
            vec![1; BUFFER],
            vec![2; 5],
            vec![3; 9 * BUFFER],
        ];
        chunks.iter().for_each(|chunk| file.append(chunk).unwrap());
        assert_eq!(file.finish().unwrap(), file_hash(&path).unwrap());
        assert!(std::fs::read(path).unwrap() == chunks.concat());
    }

    #[test]
    fn a_file_of_full_buffers_ends_with_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = HashedFile::create(&path).unwrap();
        file.append(&vec![5; 2 * BUFFER]).unwrap();
        assert_eq!(file.finish().unwrap(), file_hash(&path).unwrap());
        assert_eq!(std::fs::metadata(path).unwrap().len(), 2 * BUFFER as u64);
    }

    /// This device is always full.
    #[test]
    fn a_refused_write_is_reported_with_the_path() {
        let path = Path::new("/dev/full");
        for bytes in [1, 2 * BUFFER * BUFFERS] {
            let mut file = HashedFile::create(path).unwrap();
            let appended = file.append(&vec![1; bytes]);
            let finished = appended.and_then(|()| file.finish().map(drop));
            let text = finished.unwrap_err().to_string();
            assert!(text.starts_with("/dev/full"), "{text}");
        }
    }

    #[test]
    fn the_same_bytes_are_written_without_direct_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut output = Output::create(&path).unwrap();
        output.direct = None;
        let mut buffer = Buffer::new();
        buffer.fill(&vec![9; BUFFER]);
        let mut buffer = output.write(buffer).unwrap();
        buffer.fill(&[8]);
        output.write(buffer).unwrap();
        assert!(std::fs::read(path).unwrap() == [vec![9; BUFFER], vec![8]].concat());
    }
}
