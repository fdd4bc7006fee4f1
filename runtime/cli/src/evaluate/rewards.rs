//! The rewards of a data set's responses, as `seeward-score` wrote them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::journal::errors_path;

/// A response among those of the scoring rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) response: usize,
}

/// The rewards of those scoring rows that did not fail.
#[derive(Debug, Default)]
pub(super) struct Rewards {
    rows: Vec<Option<Vec<f32>>>,
    /// Lines of the data set whose rows failed, with the error.
    pub(super) failed: Vec<(u64, String)>,
}

/// A line of the output.
#[derive(Deserialize)]
struct ScoreLine {
    row: usize,
    score: f32,
}

/// A line of the errors file.
#[derive(Deserialize)]
struct ErrorLine {
    line: usize,
    error: String,
}

impl Rewards {
    /// Reads the output `scores` and its errors. `lines` has the line in the data set of every scoring row.
    ///
    /// # Errors
    /// A file cannot be read, or is not what `seeward-score` wrote for these rows.
    pub(super) fn read(scores: &Path, lines: &[u64]) -> Result<Self> {
        let place = || scores.display().to_string();
        let mut rewards = Self {
            rows: vec![None; lines.len()],
            failed: Vec::new(),
        };
        for line in read_lines::<ScoreLine>(scores)? {
            let line = line?;
            let row = rewards.rows.get_mut(line.row).with_context(place)?;
            row.get_or_insert_default().push(line.score);
        }
        for line in read_lines::<ErrorLine>(&errors_path(scores))? {
            let line = line?;
            let of_set = line.line.checked_sub(1).and_then(|at| lines.get(at));
            rewards
                .failed
                .push((*of_set.with_context(place)?, line.error));
        }
        Ok(rewards)
    }

    /// The reward of a response, if its row did not fail.
    pub(super) fn of(&self, place: Place) -> Option<f64> {
        let row = self.rows[place.row].as_ref()?;
        row.get(place.response).copied().map(f64::from)
    }
}

fn read_lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<impl Iterator<Item = Result<T>>> {
    let context = || path.display().to_string();
    let file = File::open(path).with_context(context)?;
    let parse = move |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    Ok(BufReader::new(file).lines().map(parse))
}
