//! Cutting a JSONL file into its lines, with the place of each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;

use crate::{Error, Result};

/// The longest row, in bytes, its line ending not counted: 64 MB.
pub const MAX_LINE_BYTES: usize = 64_000_000;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes of a line around its row: a byte order mark before it, CR LF after it.
const SURROUNDINGS: usize = BYTE_ORDER_MARK.len() + 2;

/// The place of a row in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, blank lines included.
    pub number: u64,
    /// Offset of the line's first byte.
    pub offset: u64,
    /// Offset after the line's ending, where the next line begins.
    pub end: u64,
}

/// The rows of a JSONL stream. Blank lines are skipped but counted, CR LF and a byte order mark at the start are
/// accepted, and so is a last line without a newline.
///
/// The outer error of an item is the stream's, after which the iterator ends; the inner one is the row's (not UTF-8, or
/// longer than [`MAX_LINE_BYTES`]; no more than the limit is held in memory), after which the iterator continues.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
    offset: u64,
    limit: usize,
    ended: bool,
}

impl Lines<BufReader<File>> {
    /// The rows of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Self::new(BufReader::with_capacity(1 << 16, file)))
    }
}

impl<R: BufRead> Lines<R> {
    /// The rows of a stream at its beginning.
    pub fn new(input: R) -> Self {
        Self::resume(input, 0, 0)
    }

    /// Resumes a stream at `offset`, after line `number`: the `end` and `number` of a [`Line`].
    pub fn resume(input: R, number: u64, offset: u64) -> Self {
        Self {
            input,
            number,
            offset,
            limit: MAX_LINE_BYTES,
            ended: false,
        }
    }

    /// The next line, blank or not; `None` at the end of the stream.
    fn line(&mut self) -> io::Result<Option<(Line, Vec<u8>)>> {
        let mut bytes = Vec::new();
        let length = read_line(&mut self.input, &mut bytes, self.limit + SURROUNDINGS)?;
        if length == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += length;
        self.number += 1;
        trim(&mut bytes, offset == 0);
        let line = Line {
            number: self.number,
            offset,
            end: self.offset,
        };
        Ok(Some((line, bytes)))
    }

    /// The next line that is not blank.
    fn row(&mut self) -> io::Result<Option<(Line, Result<String>)>> {
        while let Some((line, bytes)) = self.line()? {
            if bytes.len() > self.limit {
                return Ok(Some((line, Err(too_long(line, self.limit)))));
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((line, text(bytes))));
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<(Line, Result<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.row().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Reads up to and with the next newline, keeps the first `most` bytes, and returns the number of bytes read.
fn read_line(input: &mut impl BufRead, kept: &mut Vec<u8>, most: usize) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let chunk = match input.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let newline = chunk.iter().position(|&byte| byte == b'\n');
        let taken = newline.map_or(chunk.len(), |at| at + 1);
        kept.extend_from_slice(&chunk[..taken.min(most - kept.len())]);
        input.consume(taken);
        length += taken as u64;
        if newline.is_some() || taken == 0 {
            return Ok(length);
        }
    }
}

/// Removes the line ending, and at the start of a file the byte order mark.
fn trim(bytes: &mut Vec<u8>, first: bool) {
    for ending in [b'\n', b'\r'] {
        if bytes.last() == Some(&ending) {
            bytes.pop();
        }
    }
    if first && bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::invalid(format!(
            "not UTF-8: byte {} of the row is 0x{:02x}",
            at + 1,
            e.as_bytes()[at]
        ))
    })
}

fn too_long(line: Line, limit: usize) -> Error {
    let length = line.end - line.offset;
    Error::invalid(format!(
        "expected a line of at most {limit} bytes, got {length}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, offset, end, and the row or its error, read through a buffer of `chunk` bytes.
    fn read(bytes: &[u8], chunk: usize, limit: usize) -> Vec<(u64, u64, u64, String)> {
        let mut lines = Lines::new(BufReader::with_capacity(chunk, bytes));
        lines.limit = limit;
        lines
            .map(|item| {
                let (line, row) = item.unwrap();
                let row = row.unwrap_or_else(|e| e.to_string());
                (line.number, line.offset, line.end, row)
            })
            .collect()
    }

    fn row(number: u64, offset: u64, end: u64, text: &str) -> (u64, u64, u64, String) {
        (number, offset, end, text.to_owned())
    }

    #[test]
    fn lines_know_their_place_whatever_the_buffer() {
        let bytes = "\u{feff}{\"a\"}\r\n\n  \t\r\nzwei é\nlast".as_bytes();
        let expected = [
            row(1, 0, 10, "{\"a\"}"),
            row(4, 16, 24, "zwei é"),
            row(5, 24, 28, "last"),
        ];
        for chunk in 1..32 {
            assert_eq!(read(bytes, chunk, 100), expected, "chunk {chunk}");
        }
    }

    #[test]
    fn nothing_and_blanks_hold_no_rows() {
        for bytes in ["", "\n", "\r\n\r\n", "\u{feff}", "\u{feff}\n "] {
            assert_eq!(read(bytes.as_bytes(), 8, 100), [], "{bytes:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        let rows = read("a\n\u{feff}b\n".as_bytes(), 8, 100);
        assert_eq!(rows[1].3, "\u{feff}b");
        let resumed = Lines::resume("\u{feff}b\n".as_bytes(), 1, 2).next();
        assert_eq!(resumed.unwrap().unwrap().1.unwrap(), "\u{feff}b");
    }

    #[test]
    fn the_limit_counts_the_row_alone() {
        for ending in ["", "\n", "\r\n"] {
            for mark in ["", "\u{feff}"] {
                let fits = read(format!("{mark}12345678{ending}").as_bytes(), 3, 8);
                assert_eq!(fits[0].3, "12345678");
                let exceeds = read(format!("{mark}123456789{ending}").as_bytes(), 3, 8);
                assert!(
                    exceeds[0].3.starts_with("expected a line of at most 8"),
                    "{exceeds:?}"
                );
            }
        }
    }

    #[test]
    fn reading_continues_after_a_long_line_without_holding_it() {
        let mut input = vec![b'x'; 1000];
        input.extend_from_slice(b"\nnext");
        let rows = read(&input, 64, 8);
        assert_eq!(
            rows[0],
            row(1, 0, 1001, "expected a line of at most 8 bytes, got 1001")
        );
        assert_eq!(rows[1], row(2, 1001, 1005, "next"));
        let mut kept = Vec::new();
        assert_eq!(read_line(&mut &input[..], &mut kept, 13).unwrap(), 1001);
        assert_eq!(kept.len(), 13);
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_one_row() {
        let rows = read(b"ab\xff\nok\n", 8, 100);
        assert_eq!(rows[0].3, "not UTF-8: byte 3 of the row is 0xff");
        assert_eq!(rows[1].3, "ok");
    }

    #[test]
    fn reading_resumes_where_a_line_ended() {
        let bytes = b"one\n\ntwo\nthree\n";
        let all: Vec<_> = Lines::new(&bytes[..]).map(|item| item.unwrap().0).collect();
        for (index, line) in all.iter().enumerate() {
            let rest = Lines::resume(&bytes[line.end as usize..], line.number, line.end);
            let rest: Vec<_> = rest.map(|item| item.unwrap().0).collect();
            assert_eq!(rest, all[index + 1..]);
        }
    }

    #[test]
    fn a_failing_stream_ends_the_rows() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk on fire"))
            }
        }
        let mut lines = Lines::new(BufReader::new(Broken));
        assert_eq!(
            lines.next().unwrap().unwrap_err().to_string(),
            "disk on fire"
        );
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Lines::open("no/such.jsonl").unwrap_err().to_string();
        assert!(error.starts_with("no/such.jsonl: "), "{error}");
    }
}
