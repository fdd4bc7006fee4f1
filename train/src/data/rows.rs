//! The rows of training and evaluation files. Keeps only row offsets in memory; rows are read on demand.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;
use seeward_models::sample::{
    self, CarriedKeys, Lines, Pair, PreferenceReader, PreferenceRow, Sft,
};

use crate::data::row_index::{Place, RowIndex};

/// Buffer size in bytes for reading a row.
const BUFFER: usize = 1 << 14;

/// The rows of one training or evaluation file.
#[derive(Debug)]
pub struct Rows {
    pub(super) path: Arc<PathBuf>,
    /// Base folder of relative image paths.
    pub(super) root: PathBuf,
    pub(super) kind: Kind,
    pub(super) file: File,
    pub(super) index: RowIndex,
    /// sha256 of the file's JSON lines.
    pub(super) hash: String,
    /// Number of unreadable lines.
    pub(super) unreadable: usize,
}

/// The kind of a file's rows, with its parser's settings.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Preference pairs.
    Pairs(PreferenceReader),
    /// Responses for supervised fine-tuning.
    Sft(CarriedKeys),
}

/// The contents of some rows.
#[derive(Debug)]
pub enum Samples {
    /// Preference pairs.
    Pairs(Vec<Row<Pair>>),
    /// Responses for supervised fine-tuning.
    Sft(Vec<Row<Sft>>),
}

/// The content of a row, with its place.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The content.
    pub(crate) sample: T,
    file: Arc<PathBuf>,
    pub(super) line: u64,
}

impl<T> Row<T> {
    /// `file:line`, the prefix of messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

impl Samples {
    /// The place of the sample `index`: `file:line`.
    pub(crate) fn place(&self, index: usize) -> String {
        match self {
            Self::Pairs(rows) => rows[index].place(),
            Self::Sft(rows) => rows[index].place(),
        }
    }
}

impl Rows {
    /// Number of rows.
    pub fn count(&self) -> usize {
        self.index.rows()
    }

    /// sha256 of the JSON lines, taken when they were indexed.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Number of unreadable lines.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Whether the rows are preference pairs.
    pub(crate) fn are_pairs(&self) -> bool {
        matches!(self.kind, Kind::Pairs(_))
    }

    /// Reads the rows with these numbers.
    ///
    /// # Errors
    /// An I/O error, or the file has changed since it was opened.
    pub fn read(&self, numbers: &[usize]) -> Result<Samples> {
        let each = numbers.par_iter();
        Ok(match &self.kind {
            Kind::Pairs(reader) => {
                let rows = each.map(|&number| self.row(number, |text| pairs(reader, text)));
                Samples::Pairs(rows.collect::<Result<_>>()?)
            }
            Kind::Sft(carried) => {
                let parse = |text: &str| Ok(vec![sample::sft(text, carried)?]);
                let rows = each.map(|&number| self.row(number, parse));
                Samples::Sft(rows.collect::<Result<_>>()?)
            }
        })
    }

    fn row<T: Resolve>(
        &self,
        number: usize,
        parse: impl Fn(&str) -> seeward_models::Result<Vec<T>>,
    ) -> Result<Row<T>> {
        let place = self.index.place(number);
        let read = || {
            let rows = parse(&self.text(place)?)?;
            let mut rows = rows.into_iter().skip(place.within);
            rows.next().context("the row is gone")
        };
        let mut sample = read().with_context(|| {
            let path = self.path.display();
            format!(
                "{path}:{}: the file has changed since it was opened",
                place.line
            )
        })?;
        sample.resolve(&self.root);
        Ok(Row {
            sample,
            file: self.path.clone(),
            line: place.line,
        })
    }

    fn text(&self, place: Place) -> Result<String> {
        let at = At {
            file: &self.file,
            offset: place.offset,
        };
        let input = BufReader::with_capacity(BUFFER, at);
        let mut lines = Lines::resume(input, place.line - 1, place.offset);
        let (_, text) = lines.next().context("the line is gone")??;
        Ok(text?)
    }
}

fn pairs(reader: &PreferenceReader, text: &str) -> seeward_models::Result<Vec<Pair>> {
    reader.read(text).map(|row: PreferenceRow| row.pairs)
}

/// A reader of a file from an offset on. It does not move the file's position, so threads can share the file.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Content with image paths.
trait Resolve: Send {
    /// Joins relative paths to `root`.
    fn resolve(&mut self, root: &Path);
}

impl Resolve for Pair {
    fn resolve(&mut self, root: &Path) {
        resolve(root, &mut self.chosen_images);
        resolve(root, &mut self.rejected_images);
    }
}

impl Resolve for Sft {
    fn resolve(&mut self, root: &Path) {
        resolve(root, &mut self.images);
    }
}

fn resolve(root: &Path, images: &mut [String]) {
    for image in images {
        *image = root.join(&*image).to_string_lossy().into_owned();
    }
}
