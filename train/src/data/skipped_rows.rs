//! The record of rows that a run skips.

use std::collections::BTreeSet;
use std::fmt::Display;

use anyhow::{Result, bail};

use crate::data::loader::SkippedRow;
use crate::data::rows::Rows;

/// The rows of one file that were skipped so far.
#[derive(Debug)]
pub(crate) struct SkippedRows {
    numbers: BTreeSet<usize>,
    unreadable: usize,
    rows: usize,
    max_bad_fraction: f64,
}

impl SkippedRows {
    /// A record for `rows`; `numbers` are the rows that were skipped before the run was interrupted.
    pub(crate) fn new(rows: &Rows, max_bad_fraction: f64, numbers: BTreeSet<usize>) -> Self {
        Self {
            numbers,
            unreadable: rows.unreadable(),
            rows: rows.count() + rows.unreadable(),
            max_bad_fraction,
        }
    }

    /// Adds skipped rows. Returns a notice for each new one.
    ///
    /// # Errors
    /// The share of bad rows exceeds `max_bad_fraction`.
    pub(crate) fn add(&mut self, skipped: &[SkippedRow]) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        for skipped in skipped {
            if !self.numbers.insert(skipped.row as usize) {
                continue;
            }
            let bad = self.numbers.len() + self.unreadable;
            require_share(&skipped.problem, bad, self.rows, self.max_bad_fraction)?;
            notices.push(notice(&skipped.problem));
        }
        Ok(notices)
    }

    /// Numbers of the rows that were skipped so far.
    pub(crate) fn numbers(&self) -> &BTreeSet<usize> {
        &self.numbers
    }
}

/// Checks the share of bad rows, of which `problem` describes one.
///
/// # Errors
/// The share exceeds `max_bad_fraction`.
pub(crate) fn require_share(
    problem: impl Display,
    bad: usize,
    rows: usize,
    max_bad_fraction: f64,
) -> Result<()> {
    if bad as f64 <= max_bad_fraction * rows as f64 {
        return Ok(());
    }
    bail!("{problem} ({bad} of {rows} rows are unreadable; max_bad_fraction is {max_bad_fraction})")
}

/// The notice of a bad row that the run skips.
pub(crate) fn notice(problem: impl Display) -> String {
    format!("warning: {problem}: this row is skipped")
}
