//! The training and evaluation rows. Of a file only the places of its rows are held; a row is read when it is needed.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use seeward_models::Error;
use seeward_models::sample::{
    self, CarriedKeys, Line, Lines, Pair, PreferenceReader, PreferenceRow, Sft,
};

use crate::config::{Algorithm, Config};
use crate::data::row_index::{Place, RowIndex};
use crate::progress::PatientBar;

/// Bytes of lines that are parsed at once when a file is opened, and of a read when a row is.
const BLOCK: u64 = 8 << 20;
const READ: usize = 1 << 14;

/// What a run learns from, or is evaluated on.
#[derive(Debug)]
pub struct Rows {
    path: Arc<PathBuf>,
    /// The folder that relative image paths start from.
    root: PathBuf,
    kind: Kind,
    file: File,
    index: RowIndex,
    /// Lines that could not be read.
    unreadable: usize,
}

/// How a line becomes rows.
#[derive(Clone, Debug)]
enum Kind {
    /// Preference pairs.
    Pairs(PreferenceReader),
    /// Responses to imitate.
    Sft(CarriedKeys),
}

/// Some of the rows.
#[derive(Debug)]
pub enum Samples {
    /// Preference pairs.
    Pairs(Vec<Row<Pair>>),
    /// Responses to imitate.
    Sft(Vec<Row<Sft>>),
}

/// A row, and where it stands.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// What was read.
    pub(crate) sample: T,
    file: Arc<PathBuf>,
    line: u64,
}

/// A JSONL file as it was read.
#[derive(Debug)]
pub struct Read {
    /// What can be learned from.
    pub(crate) rows: Rows,
    /// Lines that are not blank.
    pub(crate) lines: usize,
    /// Combinations of completions that made no pair, because neither is rated higher.
    pub(crate) ties_dropped: usize,
    /// Combinations of completions that made no pair, because a rating is not a number.
    pub(crate) non_numeric_dropped: usize,
    /// What is wrong with the other lines, beginning with `file:line`.
    pub(crate) unreadable: Vec<Error>,
}

impl<T> Row<T> {
    /// `file:line`, as messages begin.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

impl Samples {
    /// Where one of them stands.
    pub(crate) fn place(&self, index: usize) -> String {
        match self {
            Self::Pairs(rows) => rows[index].place(),
            Self::Sft(rows) => rows[index].place(),
        }
    }
}

impl Rows {
    /// The preference pairs of a JSONL file, in the order written. Relative image paths start from `image_root`, or from
    /// the file's folder.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn pairs(path: &Path, image_root: Option<&Path>) -> Result<Self> {
        let kind = Kind::Pairs(PreferenceReader::recognise(path, CarriedKeys::default())?);
        let read = Read::scan(path, root(path, image_root), kind)?;
        Ok(read.within(0.0)?.0)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.index.rows()
    }

    /// How many lines of the file could not be read.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Whether they are preference pairs.
    pub(crate) fn are_pairs(&self) -> bool {
        matches!(self.kind, Kind::Pairs(_))
    }

    /// The rows of these numbers.
    ///
    /// # Errors
    /// The disk, or a file that has changed since it was opened.
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
        let input = BufReader::with_capacity(READ, at);
        let mut lines = Lines::resume(input, place.line - 1, place.offset);
        let (_, text) = lines.next().context("the line is gone")??;
        Ok(text?)
    }
}

impl Read {
    /// Opens the rows that `config`'s algorithm learns from, in the order written, in the config's `dataset_format` or in
    /// the one that their keys tell. Relative image paths start from the
    /// config's `image_root`, or from the file's folder.
    ///
    /// # Errors
    /// Those of the file; what is wrong with a line is kept.
    pub fn open(config: &Config, path: &Path) -> Result<Self> {
        let root = root(path, config.image_root.as_deref().map(Path::new));
        let carried = config.carry.iter().collect();
        let kind = match config.algorithm {
            Algorithm::Sft => Kind::Sft(carried),
            _ => Kind::Pairs(match config.dataset_format {
                Some(format) => PreferenceReader::named(format, carried),
                None => PreferenceReader::recognise(path, carried)?,
            }),
        };
        Self::scan(path, root, kind)
    }

    /// The rows, and what is wrong with the lines that have none.
    ///
    /// # Errors
    /// More than a share of `max_bad_fraction` of the lines is unreadable: the first one.
    pub fn within(self, max_bad_fraction: f64) -> Result<(Rows, Vec<Error>)> {
        let (bad, lines) = (self.unreadable.len(), self.lines);
        if let Some(first) = self.unreadable.first() {
            too_many(first, bad, lines, max_bad_fraction)?;
        }
        Ok((self.rows, self.unreadable))
    }

    /// Parses every line once, to find its rows and whatever is wrong.
    fn scan(path: &Path, root: &Path, kind: Kind) -> Result<Self> {
        let place = || path.display().to_string();
        let file = File::open(path).with_context(place)?;
        let bar = PatientBar::new("rows", file.metadata().with_context(place)?.len());
        let mut read = Self {
            rows: Rows {
                path: Arc::new(path.to_owned()),
                root: root.to_owned(),
                kind,
                file,
                index: RowIndex::default(),
                unreadable: 0,
            },
            lines: 0,
            ties_dropped: 0,
            non_numeric_dropped: 0,
            unreadable: Vec::new(),
        };
        let mut lines = Lines::open(path)?;
        while let Some(block) = block(&mut lines).with_context(place)? {
            let kind = &read.rows.kind;
            let found = block.par_iter().map(|(_, text)| kind.count(text));
            let found: Vec<_> = found.collect();
            let last = block.last().map_or(0, |(line, _)| line.end);
            for ((line, _), found) in block.into_iter().zip(found) {
                read.add(line, found);
            }
            bar.at(last);
        }
        read.rows.index.shrink();
        read.rows.unreadable = read.unreadable.len();
        let nothing = read.rows.count() == 0 && read.unreadable.is_empty();
        ensure!(!nothing, "{}: no training rows", place());
        Ok(read)
    }

    fn add(&mut self, line: Line, found: seeward_models::Result<Found>) {
        self.lines += 1;
        match found {
            Ok(found) => {
                self.rows.index.push(line, found.rows);
                self.ties_dropped += found.ties_dropped;
                self.non_numeric_dropped += found.non_numeric_dropped;
            }
            Err(e) => {
                let place = format!("{}:{}", self.rows.path.display(), line.number);
                self.unreadable.push(e.at(place));
            }
        }
    }
}

/// Refuses more than a share of `max_bad_fraction` of bad rows, and says what is wrong with one of them.
pub(crate) fn too_many(
    one: impl std::fmt::Display,
    bad: usize,
    rows: usize,
    max_bad_fraction: f64,
) -> Result<()> {
    if bad as f64 <= max_bad_fraction * rows as f64 {
        return Ok(());
    }
    bail!("{one} ({bad} of {rows} rows are unreadable; max_bad_fraction is {max_bad_fraction})")
}

/// What the user is told of a bad row that the run goes on without.
pub(crate) fn notice(problem: impl std::fmt::Display) -> String {
    format!("warning: {problem}: this row is left out")
}

/// What is in a line.
#[derive(Default)]
struct Found {
    rows: usize,
    ties_dropped: usize,
    non_numeric_dropped: usize,
}

impl Kind {
    fn count(&self, text: &seeward_models::Result<String>) -> seeward_models::Result<Found> {
        let text = text.as_ref().map_err(Error::invalid)?;
        match self {
            Self::Pairs(reader) => {
                let row = reader.read(text)?;
                Ok(Found {
                    rows: row.pairs.len(),
                    ties_dropped: row.ties_dropped,
                    non_numeric_dropped: row.non_numeric_dropped,
                })
            }
            Self::Sft(carried) => sample::sft(text, carried).map(|_| Found {
                rows: 1,
                ..Found::default()
            }),
        }
    }
}

type Text = (Line, seeward_models::Result<String>);

/// The next lines, of [`BLOCK`] bytes or few more; `None` at the end.
fn block(lines: &mut Lines<BufReader<File>>) -> io::Result<Option<Vec<Text>>> {
    let (mut block, mut bytes) = (Vec::new(), 0);
    while bytes < BLOCK {
        let Some(item) = lines.next() else { break };
        let (line, text) = item?;
        bytes += line.end - line.offset;
        block.push((line, text));
    }
    Ok((!block.is_empty()).then_some(block))
}

fn pairs(reader: &PreferenceReader, text: &str) -> seeward_models::Result<Vec<Pair>> {
    reader.read(text).map(|row: PreferenceRow| row.pairs)
}

/// A file from an offset on; the file's own position is left alone, so that threads may share it.
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

/// What has image paths.
trait Resolve: Send {
    /// Relative paths start from `root`.
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

fn root<'a>(path: &'a Path, image_root: Option<&'a Path>) -> &'a Path {
    image_root.unwrap_or_else(|| path.parent().unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// Chosen responses with the lines that they are said to be in.
    fn chosen(rows: &Rows, numbers: &[usize]) -> Vec<(String, u64)> {
        let Samples::Pairs(rows) = rows.read(numbers).unwrap() else {
            panic!("pairs")
        };
        rows.into_iter()
            .map(|row| (row.sample.chosen, row.line))
            .collect()
    }

    #[test]
    fn rows_are_read_in_any_order() {
        let row = |name: &str| format!(r#"{{"prompt":"p","chosen":"{name}","rejected":"r"}}"#);
        let text = format!("\u{feff}{}\r\n\n{}\n \n{}", row("a"), row("é"), row("c"));
        let file = file(&text);
        let rows = Rows::pairs(file.path(), None).unwrap();
        let expected = [("c", 5), ("a", 1), ("é", 3), ("a", 1)];
        let expected = expected.map(|(name, line)| (name.to_owned(), line));
        assert_eq!(chosen(&rows, &[2, 0, 1, 0]), expected);
    }

    #[test]
    fn a_named_format_needs_no_recognition() {
        let row =
            r#"{"prompt":"p","chosen":"c","rejected":"r","rejected_response":"of another format"}"#;
        let file = file(row);
        let mut config = Config::default();
        let rows = |config: &Config| Read::open(config, file.path()).unwrap().within(0.0);
        let problem = rows(&config).unwrap_err().to_string();
        assert!(problem.contains("keys of two formats"), "{problem}");
        config.dataset_format = Some("pairwise".parse().unwrap());
        let (rows, _) = rows(&config).unwrap();
        assert_eq!(chosen(&rows, &[0]), [("c".to_owned(), 1)]);
    }

    #[test]
    fn a_list_of_completions_is_as_many_rows_as_pairs() {
        let completion = |name: &str, rating: u32| {
            format!(r#"{{"annotations":{{"A":{{"Rating":{rating}}}}},"response":"{name}"}}"#)
        };
        let row = |ratings: [u32; 3]| {
            let completions = ["x", "y", "z"].iter().zip(ratings);
            let completions: Vec<_> = completions.map(|(name, r)| completion(name, r)).collect();
            format!(
                r#"{{"prompt":"p","completions":[{}]}}"#,
                completions.join(",")
            )
        };
        // Three pairs, none, two.
        let text = [row([3, 2, 1]), row([1, 1, 1]), row([1, 1, 2])].join("\n");
        let file = file(&text);
        let rows = Rows::pairs(file.path(), None).unwrap();
        assert_eq!(rows.count(), 5);
        let expected = [("x", 1), ("x", 1), ("y", 1), ("z", 3), ("z", 3)];
        let expected = expected.map(|(name, line)| (name.to_owned(), line));
        assert_eq!(chosen(&rows, &[0, 1, 2, 3, 4]), expected);
    }

    #[test]
    fn a_file_that_changes_is_found_out() {
        let row = r#"{"prompt":"p","chosen":"c","rejected":"r"}"#;
        let file = file(&format!("{row}\n{row}\n"));
        let rows = Rows::pairs(file.path(), None).unwrap();
        fs::write(file.path(), format!("{row}\n")).unwrap();
        let error = format!("{:#}", rows.read(&[1]).unwrap_err());
        let place = file.path().display();
        let expected = format!("{place}:2: the file has changed since it was opened: ");
        assert!(error.starts_with(&expected), "{error}");
    }
}
