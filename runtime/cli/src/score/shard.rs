//! `--shard I/N`: the part of an input that one of several runs scores. Parts are whole windows, since the digits of a
//! row depend on its window, and so the joined output has one run's bytes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use seeward_models::rows::{RowStream, is_stdin};
use seeward_models::sample::Lines;
use serde::{Deserialize, Serialize};

use super::input::{Input, Position, WINDOW_ROWS};

/// One of `count` shards, by its index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(super) index: u64,
    pub(super) count: u64,
}

/// The part of an input that is a shard.
pub(super) struct Part {
    /// Where it begins.
    pub(super) begin: Position,
    pub(super) bounds: Bounds,
}

/// A part as its identity records it: by offsets in bytes of the input's JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub(super) index: u64,
    pub(super) count: u64,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// sha256 of the whole input's JSON lines.
    pub(super) input: String,
}

impl Shard {
    /// The file that the shard of `output` writes.
    pub(super) fn file(self, output: &Path) -> PathBuf {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".shard-{}-of-{}", self.index, self.count));
        name.into()
    }

    /// The shard's part of `input`, which is read twice: its windows are counted, then those before the part and in it are
    /// passed. Later shards have the remaining ones, so that the last one reaches the end.
    ///
    /// # Errors
    /// The input cannot be read, or is no file.
    pub(super) fn part(self, input: &Path) -> Result<Part> {
        let context = || input.display().to_string();
        if is_stdin(input) || !input.metadata().with_context(context)?.is_file() {
            bail!(
                "--shard: {}: expected a file, which is read twice",
                context()
            );
        }
        let windows = windows(input)?;
        let border = |index: u64| windows * index / self.count;
        let (first, last) = (border(self.index), border(self.index + 1));
        let mut reader = Input::at(input, RowStream::open(input)?, &Position::start())?;
        pass(&mut reader, first)?;
        let begin = reader.position();
        pass(&mut reader, last - first)?;
        let end = reader.position().offset;
        pass(&mut reader, u64::MAX)?;
        let bounds = Bounds {
            index: self.index,
            count: self.count,
            begin: begin.offset,
            end,
            input: reader.position().sha256,
        };
        Ok(Part { begin, bounds })
    }
}

fn windows(input: &Path) -> Result<u64> {
    let mut rows: u64 = 0;
    for row in Lines::new(RowStream::open(input)?) {
        // A row that is not text counts: it is one of the rows that fail.
        let _ = row.with_context(|| input.display().to_string())?;
        rows += 1;
    }
    Ok(rows.div_ceil(WINDOW_ROWS as u64))
}

/// Reads `windows` windows, or to the end.
fn pass(input: &mut Input, windows: u64) -> Result<()> {
    for _ in 0..windows {
        if input.window(WINDOW_ROWS)?.is_empty() {
            break;
        }
    }
    Ok(())
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err("expected I/N with I from 0 to N - 1".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_zero() {
        let shard: Shard = "2/3".parse().unwrap();
        assert_eq!(
            (shard.index, shard.count, &*shard.to_string()),
            (2, 3, "2/3")
        );
        let file = shard.file(Path::new("out/scores.jsonl"));
        assert_eq!(file, Path::new("out/scores.jsonl.shard-2-of-3"));
        for text in ["3/3", "0/0", "1", "-1/2", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_follow_each_other_and_cover_the_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for rows in [0, 1, 32, 33, 100, 320] {
            let row = |n: usize| {
                if n.is_multiple_of(7) {
                    "\r\n{}\r\n"
                } else {
                    "{}\n"
                }
            };
            let text: String = (0..rows).map(row).collect();
            std::fs::write(file.path(), &text).unwrap();
            for count in 1..6 {
                let parts = (0..count).map(|index| Shard { index, count });
                let parts: Vec<Part> = parts.map(|s| s.part(file.path()).unwrap()).collect();
                assert_eq!(parts[0].begin, Position::start());
                for pair in parts.windows(2) {
                    assert_eq!(pair[0].bounds.end, pair[1].begin.offset);
                    assert_eq!(pair[0].bounds.input, pair[1].bounds.input);
                }
                assert_eq!(parts[parts.len() - 1].bounds.end, text.len() as u64);
            }
        }
    }
}
