//! The input: windows of rows, and the position reached, both in its JSON lines.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use seeward_models::hash::HashedReader;
use seeward_models::rows::RowStream;
use seeward_models::sample::Lines;
use serde::{Deserialize, Serialize};

/// Input rows that are scored together. Batches do not cross windows, so this is a part of the run's identity.
pub(super) const WINDOW_ROWS: usize = 32;

/// A row and the number of its line, counted from 1.
pub(super) type Row = (u64, seeward_models::Result<String>);

/// The part of the input that has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Its length in bytes.
    pub(super) offset: u64,
    /// Its complete lines.
    pub(super) lines: u64,
    /// sha256 of its bytes.
    pub(super) sha256: String,
}

impl Position {
    pub(super) fn start() -> Self {
        Counted::new(io::empty()).position()
    }
}

/// The input, read from a position.
pub(super) struct Input {
    path: PathBuf,
    /// Length in bytes, if it is known.
    length: Option<u64>,
    /// Where it ends for this run, a window's border.
    end: Option<u64>,
    reader: Counted<RowStream>,
}

impl Input {
    /// The rows at `path`, just opened, from `position` on: what comes before is read for its hash.
    ///
    /// # Errors
    /// The file cannot be read, or the part before `position` has changed.
    pub(super) fn at(path: &Path, rows: RowStream, position: &Position) -> Result<Self> {
        let context = || path.display().to_string();
        let length = rows.length();
        let mut reader = Counted::new(rows);
        reader.skip(position.offset).with_context(context)?;
        if reader.position() != *position || reader.is_inside_a_line().with_context(context)? {
            bail!(
                "{}: the input has changed since the interrupted run (--no-resume starts from scratch)",
                path.display()
            );
        }
        Ok(Self {
            path: path.to_owned(),
            length,
            end: None,
            reader,
        })
    }

    /// Ends the input at this offset, the border of a window.
    pub(super) fn until(self, end: Option<u64>) -> Self {
        Self { end, ..self }
    }

    /// Reads the next `rows` rows; fewer at the end, then none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn window(&mut self, rows: usize) -> Result<Vec<Row>> {
        let (lines, offset) = (self.reader.lines, self.reader.offset);
        if self.end.is_some_and(|end| offset >= end) {
            return Ok(Vec::new());
        }
        let rows = Lines::resume(&mut self.reader, lines, offset).take(rows);
        let rows = rows.map(|row| row.map(|(line, text)| (line.number, text)));
        let rows: io::Result<Vec<_>> = rows.collect();
        rows.with_context(|| self.path.display().to_string())
    }

    pub(super) fn position(&self) -> Position {
        self.reader.position()
    }

    /// Length in bytes, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }
}

/// A reader that counts and hashes the bytes read from it.
struct Counted<R> {
    inner: HashedReader<R>,
    offset: u64,
    lines: u64,
    last: u8,
}

impl<R: BufRead> Counted<R> {
    fn new(inner: R) -> Self {
        Self {
            inner: HashedReader::new(inner),
            offset: 0,
            lines: 0,
            last: b'\n',
        }
    }

    fn position(&self) -> Position {
        Position {
            offset: self.offset,
            lines: self.lines,
            sha256: self.inner.hash(),
        }
    }

    /// Skips `bytes` bytes, or to the end.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.take(bytes), &mut io::sink()).map(|_| ())
    }

    /// Whether the next byte continues a line that was read as complete.
    fn is_inside_a_line(&mut self) -> io::Result<bool> {
        let next = self.inner.fill_buf()?.first().copied();
        Ok(self.last != b'\n' && next.is_some_and(|byte| !b"\r\n".contains(&byte)))
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // The consumed bytes are buffered already, so this reads nothing and cannot fail.
        let filled = self.inner.fill_buf().unwrap_or_default();
        let taken = &filled[..amount];
        self.offset += amount as u64;
        self.lines += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.last = taken.last().copied().unwrap_or(self.last);
        self.inner.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    fn open(path: &Path, position: &Position) -> Result<Input> {
        Input::at(path, RowStream::open(path)?, position)
    }

    fn texts(rows: Vec<Row>) -> Vec<(u64, String)> {
        rows.into_iter().map(|(n, row)| (n, row.unwrap())).collect()
    }

    #[test]
    fn windows_resume_at_every_border() {
        let file = file("one\n\ntwo\r\nthree\n\n\nfour\nfive");
        let mut whole = open(file.path(), &Position::start()).unwrap();
        let mut borders = vec![];
        loop {
            let rows = texts(whole.window(2).unwrap());
            if rows.is_empty() {
                break;
            }
            borders.push((rows, whole.position()));
        }
        assert_eq!(borders.len(), 3);
        assert_eq!(
            borders[1].0,
            [(4, "three".to_owned()), (7, "four".to_owned())]
        );
        for pair in borders.windows(2) {
            let mut resumed = open(file.path(), &pair[0].1).unwrap();
            assert_eq!(texts(resumed.window(2).unwrap()), pair[1].0);
            assert_eq!(resumed.position(), pair[1].1);
        }
    }

    #[test]
    fn a_changed_input_is_refused_and_a_longer_one_is_not() {
        let before = file("one\ntwo\n");
        let mut input = open(before.path(), &Position::start()).unwrap();
        input.window(9).unwrap();
        let position = input.position();
        for changed in ["one\ntwO\n", "one\n", "", "uno\ntwo\nthree\n"] {
            let error = open(file(changed).path(), &position).err().unwrap();
            assert!(error.to_string().contains("has changed"), "{changed}");
        }
        let mut longer = open(file("one\ntwo\nthree").path(), &position).unwrap();
        assert_eq!(texts(longer.window(9).unwrap()), [(3, "three".to_owned())]);
    }

    #[test]
    fn a_last_line_that_continues_is_a_change() {
        let before = file("one");
        let mut input = open(before.path(), &Position::start()).unwrap();
        input.window(9).unwrap();
        let position = input.position();
        assert!(open(file("oneself").path(), &position).is_err());
        let mut longer = open(file("one\ntwo").path(), &position).unwrap();
        assert_eq!(texts(longer.window(9).unwrap()), [(2, "two".to_owned())]);
    }
}
