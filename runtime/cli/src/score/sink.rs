//! Where a run writes: files from which a later run resumes, or a stream.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::arguments::PROGRAM;
use super::identity::Identity;
use super::input::Position;
use super::job::{is_stdout, is_stream};
use super::window::Window;
use crate::journal::Journal;
use crate::terminal;

/// The destination of a run's lines and errors.
pub(super) enum Sink {
    Files(Box<Journal<Position, Identity>>),
    Stream(Stream),
}

/// A pipe, a device or standard output: lines only. Failed rows are logged.
pub(super) struct Stream {
    path: PathBuf,
    output: Box<dyn Write>,
    position: Position,
    failed_rows: u64,
}

impl Sink {
    /// Opens the destination at `path` of an input that begins at `start`. Only files are resumed.
    ///
    /// # Errors
    /// As [`Journal::open`]; a stream that cannot be opened.
    pub(super) fn open(
        path: &Path,
        identity: Identity,
        start: Position,
        resume: bool,
    ) -> Result<Self> {
        if is_stream(path) {
            return Stream::open(path, start).map(Self::Stream);
        }
        let files = Journal::open(path, identity, start, resume)?;
        if let Some(notice) = files.notice() {
            terminal::log(PROGRAM, format_args!("notice: {notice}"));
        }
        Ok(Self::Files(Box::new(files)))
    }

    /// The place in the input that the output has reached.
    pub(super) fn position(&self) -> &Position {
        match self {
            Self::Files(journal) => journal.position(),
            Self::Stream(stream) => &stream.position,
        }
    }

    /// Rows that failed.
    pub(super) fn failed_rows(&self) -> u64 {
        match self {
            Self::Files(journal) => journal.failed_rows(),
            Self::Stream(stream) => stream.failed_rows,
        }
    }

    /// Appends the lines of a window that ends at `position` of the input.
    ///
    /// # Errors
    /// A full disk, or a pipe that nobody reads any more.
    pub(super) fn append(&mut self, window: &Window, position: Position) -> Result<()> {
        match self {
            Self::Files(journal) => {
                let lines = [&*window.output, &*window.errors];
                journal.append(lines, window.failed_rows, position)
            }
            Self::Stream(stream) => stream.append(window, position),
        }
    }
}

impl Stream {
    fn open(path: &Path, position: Position) -> Result<Self> {
        let output: Box<dyn Write> = match is_stdout(path) {
            // Opened by its name, a file that the shell redirects to would be written from its beginning.
            true => Box::new(io::stdout()),
            false => {
                let file = OpenOptions::new().write(true).open(path);
                Box::new(file.with_context(|| path.display().to_string())?)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            output,
            position,
            failed_rows: 0,
        })
    }

    fn append(&mut self, window: &Window, position: Position) -> Result<()> {
        for error in window.errors.lines() {
            terminal::log(PROGRAM, error);
        }
        let written = self.output.write_all(window.output.as_bytes());
        let written = written.and_then(|()| self.output.flush());
        written.with_context(|| match is_stdout(&self.path) {
            true => "stdout".to_owned(),
            false => self.path.display().to_string(),
        })?;
        self.position = position;
        self.failed_rows += window.failed_rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Map;

    use super::*;

    fn open(path: &Path) -> Result<Sink> {
        let identity = Identity {
            bundle: "b".to_owned(),
            options: Map::new(),
        };
        Sink::open(path, identity, Position::start(), true)
    }

    #[test]
    fn a_device_gets_lines_and_no_files_next_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("out");
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        let mut sink = open(&link).unwrap();
        let window = Window {
            output: "a\n".to_owned(),
            ..Window::default()
        };
        let error = sink.append(&window, Position::start()).unwrap_err();
        assert!(
            format!("{error:#}").contains("out: No space left"),
            "{error:#}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // A folder is neither a stream nor a file.
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.ends_with("expected a file, got a folder"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
