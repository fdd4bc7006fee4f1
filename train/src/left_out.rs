//! The count of rows that a run goes on without.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::data::{self, Rows};
use crate::loader::Batch;

/// The rows of one file that were met and left out.
#[derive(Debug)]
pub struct Tally {
    left_out: BTreeSet<usize>,
    unreadable: usize,
    rows: usize,
    max_bad_fraction: f64,
}

impl Tally {
    /// Of `rows`; `left_out` are those that were met before the run was stopped.
    pub fn new(rows: &Rows, max_bad_fraction: f64, left_out: BTreeSet<usize>) -> Self {
        Self {
            left_out,
            unreadable: rows.unreadable(),
            rows: rows.count() + rows.unreadable(),
            max_bad_fraction,
        }
    }

    /// Counts what these batches lack, and returns what is new in it, in words.
    ///
    /// # Errors
    /// More than a share of `max_bad_fraction` of the rows is bad.
    pub fn add(&mut self, batches: &[Batch]) -> Result<Vec<String>> {
        let mut news = Vec::new();
        for left_out in batches.iter().flat_map(|batch| &batch.left_out) {
            if !self.left_out.insert(left_out.row) {
                continue;
            }
            let bad = self.left_out.len() + self.unreadable;
            data::too_many(&left_out.problem, bad, self.rows, self.max_bad_fraction)?;
            news.push(data::notice(&left_out.problem));
        }
        Ok(news)
    }

    /// The rows that were met and left out.
    pub fn left_out(&self) -> &BTreeSet<usize> {
        &self.left_out
    }
}
