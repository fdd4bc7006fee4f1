//! The scan of a JSONL file: parses every line once to find its rows and its problems.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use seeward_models::hash::HashedReader;
use seeward_models::sample::{self, CarriedKeys, Line, Lines, PreferenceReader};
use seeward_models::{Error, rows};

use crate::config::{Algorithm, Config};
use crate::data::row_index::RowIndex;
use crate::data::rows::{Kind, Rows};
use crate::data::skipped_rows;
use crate::progress::PatientBar;

/// Bytes of lines that are parsed at once.
const BLOCK: u64 = 8 << 20;
/// Bytes read at once.
const BUFFER: usize = 1 << 16;

/// The result of scanning a JSONL file.
#[derive(Debug)]
pub struct Scan {
    /// The rows that can be read.
    pub(crate) rows: Rows,
    /// Number of lines that are not blank.
    pub(crate) lines: usize,
    /// Number of combinations of completions that make no pair, because their ratings are equal.
    pub(crate) ties_dropped: usize,
    /// Number of combinations of completions that make no pair, because a rating is not a number.
    pub(crate) non_numeric_dropped: usize,
    /// Errors of the unreadable lines, starting with `file:line`.
    pub(crate) unreadable: Vec<Error>,
}

impl Rows {
    /// Opens the preference pairs of a plain JSONL file, in file order. Relative image paths start from `image_root`, or from
    /// the file's folder.
    ///
    /// # Errors
    /// The file or one of its lines cannot be read.
    pub fn pairs(path: &Path, image_root: Option<&Path>) -> Result<Self> {
        let kind = Kind::Pairs(PreferenceReader::recognise(path, CarriedKeys::default())?);
        let read = Scan::read(path, path, root(path, image_root), kind)?;
        Ok(read.within(0.0)?.0)
    }
}

impl Scan {
    /// Scans a file of rows for the algorithm of `config`, in file order. Their format is `dataset_format`, or is
    /// recognised by their keys. Relative image paths start from `image_root`, or from the file's folder. Rows that are
    /// compressed, an array or from a pipe are written to `unpacked` first, since training seeks.
    ///
    /// # Errors
    /// The file cannot be read, or has no rows. Errors of single lines are collected in the result.
    pub fn open(config: &Config, path: &Path, unpacked: &Path) -> Result<Self> {
        let source = rows::seekable(path, unpacked)?;
        let root = root(path, config.image_root.as_deref().map(Path::new));
        let carried = config.carry.iter().collect();
        let kind = match config.algorithm {
            Algorithm::Sft => Kind::Sft(carried),
            _ => Kind::Pairs(match config.dataset_format {
                Some(format) => PreferenceReader::named(format, carried),
                None => PreferenceReader::recognise(source, carried)?,
            }),
        };
        Self::read(path, source, root, kind)
    }

    /// The rows, and the errors of the unreadable lines.
    ///
    /// # Errors
    /// The share of unreadable lines exceeds `max_bad_fraction`; the message has the first error.
    pub fn within(self, max_bad_fraction: f64) -> Result<(Rows, Vec<Error>)> {
        let (bad, lines) = (self.unreadable.len(), self.lines);
        if let Some(first) = self.unreadable.first() {
            skipped_rows::require_share(first, bad, lines, max_bad_fraction)?;
        }
        Ok((self.rows, self.unreadable))
    }

    /// Scans the JSON lines in `source`, which messages call `path`.
    fn read(path: &Path, source: &Path, root: &Path, kind: Kind) -> Result<Self> {
        let place = || path.display().to_string();
        let file = File::open(source).with_context(place)?;
        let bar = PatientBar::new("rows", file.metadata().with_context(place)?.len());
        let mut scan = Self {
            rows: Rows {
                path: Arc::new(path.to_owned()),
                root: root.to_owned(),
                kind,
                file,
                index: RowIndex::default(),
                hash: String::new(),
                unreadable: 0,
            },
            lines: 0,
            ties_dropped: 0,
            non_numeric_dropped: 0,
            unreadable: Vec::new(),
        };
        let mut read = HashedReader::new(BufReader::with_capacity(BUFFER, File::open(source)?));
        let mut lines = Lines::new(&mut read);
        while let Some(block) = block(&mut lines).with_context(place)? {
            let kind = &scan.rows.kind;
            let found = block.par_iter().map(|(_, text)| count(kind, text));
            let found: Vec<_> = found.collect();
            let last = block.last().map_or(0, |(line, _)| line.end);
            for ((line, _), found) in block.into_iter().zip(found) {
                scan.add(line, found);
            }
            bar.at(last);
        }
        scan.rows.hash = read.hash();
        scan.rows.index.shrink();
        scan.rows.unreadable = scan.unreadable.len();
        let nothing = scan.rows.count() == 0 && scan.unreadable.is_empty();
        ensure!(!nothing, "{}: no training rows", place());
        Ok(scan)
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

/// The counts of a line.
#[derive(Default)]
struct Found {
    rows: usize,
    ties_dropped: usize,
    non_numeric_dropped: usize,
}

fn count(kind: &Kind, text: &seeward_models::Result<String>) -> seeward_models::Result<Found> {
    let text = text.as_ref().map_err(Error::invalid)?;
    match kind {
        Kind::Pairs(reader) => {
            let row = reader.read(text)?;
            Ok(Found {
                rows: row.pairs.len(),
                ties_dropped: row.ties_dropped,
                non_numeric_dropped: row.non_numeric_dropped,
            })
        }
        Kind::Sft(carried) => sample::sft(text, carried).map(|_| Found {
            rows: 1,
            ..Found::default()
        }),
    }
}

type Text = (Line, seeward_models::Result<String>);

/// The next lines, of at least [`BLOCK`] bytes unless the file ends; `None` at the end.
fn block(lines: &mut Lines<impl BufRead>) -> io::Result<Option<Vec<Text>>> {
    let (mut block, mut bytes) = (Vec::new(), 0);
    while bytes < BLOCK {
        let Some(item) = lines.next() else { break };
        let (line, text) = item?;
        bytes += line.end - line.offset;
        block.push((line, text));
    }
    Ok((!block.is_empty()).then_some(block))
}

fn root<'a>(path: &'a Path, image_root: Option<&'a Path>) -> &'a Path {
    image_root.unwrap_or_else(|| rows::image_folder(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Samples;
    use std::fs;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// Chosen responses with their line numbers.
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
        let rows = |config: &Config| {
            Scan::open(config, file.path(), file.path())
                .unwrap()
                .within(0.0)
        };
        let problem = rows(&config).unwrap_err().to_string();
        assert!(problem.contains("keys of two formats"), "{problem}");
        config.dataset_format = Some("pairwise".parse().unwrap());
        let (rows, _) = rows(&config).unwrap();
        assert_eq!(chosen(&rows, &[0]), [("c".to_owned(), 1)]);
    }

    #[test]
    fn a_list_of_completions_has_one_row_per_pair() {
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
    fn a_changed_file_is_detected() {
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
