//! The count of rows that a run skips.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::data::loader::Batch;
use crate::data::rows::{self, Rows};

/// The rows of one file that were met and skipped.
#[derive(Debug)]
pub(crate) struct SkippedRows {
    numbers: BTreeSet<usize>,
    unreadable: usize,
    rows: usize,
    max_bad_fraction: f64,
}

impl SkippedRows {
    /// Of `rows`; `numbers` are those that were met before the run was stopped.
    pub(crate) fn new(rows: &Rows, max_bad_fraction: f64, numbers: BTreeSet<usize>) -> Self {
        Self {
            numbers,
            unreadable: rows.unreadable(),
            rows: rows.count() + rows.unreadable(),
            max_bad_fraction,
        }
    }

    /// Counts what these batches lack, and returns what is new in it, in words.
    ///
    /// # Errors
    /// More than a share of `max_bad_fraction` of the rows is bad.
    pub(crate) fn add(&mut self, batches: &[Batch]) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        for skipped in batches.iter().flat_map(|batch| &batch.skipped) {
            if !self.numbers.insert(skipped.row) {
                continue;
            }
            let bad = self.numbers.len() + self.unreadable;
            rows::too_many(&skipped.problem, bad, self.rows, self.max_bad_fraction)?;
            notices.push(rows::notice(&skipped.problem));
        }
        Ok(notices)
    }

    /// The rows that were met and skipped.
    pub(crate) fn numbers(&self) -> &BTreeSet<usize> {
        &self.numbers
    }
}
