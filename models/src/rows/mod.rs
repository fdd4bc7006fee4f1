//! Opening files of rows: JSON lines, plain or compressed by gzip or zstd, and JSON arrays of rows, from files, pipes and
//! standard input. Every program reads rows through here, so that all of them read the same files.
//!
//! What comes out is always JSON lines. The lines of an array are its elements: line 3 is the third one.

mod array;
mod content;
mod zstd;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::atomic;
use crate::{Error, Result};
use array::ArrayLines;
use content::Content;

/// Bytes read at once.
const BUFFER: usize = 1 << 16;
/// Most bytes by which the content of a file is known.
const HEAD: u64 = 1 << 12;

type Input = Box<dyn BufRead + Send>;

/// The JSON lines of a file, a pipe or standard input.
pub struct RowStream {
    lines: Input,
    length: Option<u64>,
}

impl RowStream {
    /// Opens the rows at `path`; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be opened, or holds something else than rows (the message has the cure). What is wrong later, such
    /// as a file that was cut short, is an error of the stream.
    pub fn open(path: &Path) -> Result<Self> {
        let place = |e| Error::io(path, e);
        let (input, length) = input(path).map_err(place)?;
        let (mut content, mut lines) = sniff(input).map_err(place)?;
        let plain = content == Content::Lines;
        if content.is_compressed() {
            let unpacked = Unpacked {
                method: content.name(),
                input: decompressed(content, lines),
            };
            let unpacked = BufReader::with_capacity(BUFFER, unpacked);
            (content, lines) = sniff(Box::new(unpacked)).map_err(place)?;
        }
        Ok(Self {
            lines: content.lines(lines).map_err(|e| e.at(path.display()))?,
            length: length.filter(|_| plain),
        })
    }

    /// The number of bytes, if it is known before the end: that of a regular file of plain JSON lines.
    pub fn length(&self) -> Option<u64> {
        self.length
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RowStream");
        shown.field("length", &self.length).finish_non_exhaustive()
    }
}

impl Read for RowStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lines.read(buffer)
    }
}

impl BufRead for RowStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.lines.consume(amount);
    }
}

/// The rows at `path` as a file of JSON lines in which a reader can seek: `path` itself, or if it is no such file, `into`,
/// which is then written.
///
/// # Errors
/// As [`RowStream::open`]; `path` is damaged, or `into` cannot be written.
pub fn seekable<'a>(path: &'a Path, into: &'a Path) -> Result<&'a Path> {
    let mut rows = RowStream::open(path)?;
    if rows.length().is_some() {
        return Ok(path);
    }
    let mut damage = None;
    let written = atomic::replace_file_with(into, |file| {
        loop {
            let chunk = match rows.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(chunk) => chunk,
                Err(e) => {
                    let copy = io::Error::new(e.kind(), "unreadable rows");
                    damage = Some(e);
                    return Err(copy);
                }
            };
            io::Write::write_all(file, chunk)?;
            let length = chunk.len();
            rows.consume(length);
        }
    });
    match damage {
        Some(e) => Err(Error::io(path, e)),
        None => written.map(|()| into),
    }
}

/// The folder from which the relative image paths of the rows at `path` start: the file's, or for a pipe and for standard
/// input the current one.
pub fn image_folder(path: &Path) -> &Path {
    match is_stdin(path) || path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        true => Path::new(""),
        false => path.parent().unwrap_or(Path::new("")),
    }
}

/// Whether `path` means standard input.
pub fn is_stdin(path: &Path) -> bool {
    ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]
        .iter()
        .any(|name| path == Path::new(name))
}

/// The bytes at `path`, and their number if it is a regular file.
fn input(path: &Path) -> io::Result<(Input, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((
            Box::new(BufReader::with_capacity(BUFFER, io::stdin())),
            None,
        ));
    }
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("expected a file of rows, got a folder"));
    }
    let input = BufReader::with_capacity(BUFFER, File::open(path)?);
    Ok((
        Box::new(input),
        metadata.is_file().then_some(metadata.len()),
    ))
}

/// What `input` holds, and all of its bytes again.
fn sniff(mut input: Input) -> io::Result<(Content, Input)> {
    let mut head = Vec::new();
    // A pipe hands out bytes as they come; the first line is enough, and more may be long in coming.
    while (head.len() as u64) < HEAD && !content::has_a_line(&head) {
        let chunk = input.fill_buf()?;
        let taken = chunk.len().min(HEAD as usize - head.len());
        if taken == 0 {
            break;
        }
        head.extend_from_slice(&chunk[..taken]);
        input.consume(taken);
    }
    let content = Content::of(&head);
    Ok((content, Box::new(Cursor::new(head).chain(input))))
}

fn decompressed(content: Content, input: Input) -> Box<dyn Read + Send> {
    match content {
        Content::Gzip => Box::new(MultiGzDecoder::new(input)),
        _ => Box::new(zstd::Frames::new(input)),
    }
}

/// A decompressor whose errors say which one it is.
struct Unpacked {
    method: &'static str,
    input: Box<dyn Read + Send>,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer);
        read.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.method)))
    }
}

impl Content {
    /// The JSON lines of an `input` with this content.
    fn lines(self, input: Input) -> Result<Input> {
        match self {
            Self::Lines => Ok(input),
            Self::Array => Ok(Box::new(ArrayLines::new(input))),
            Self::Gzip | Self::Zstd => Err(Error::invalid(format!(
                "{} within compressed data: unpack the file once",
                self.name()
            ))),
            Self::Other(other) => Err(other.error()),
        }
    }
}

#[cfg(test)]
mod tests;
