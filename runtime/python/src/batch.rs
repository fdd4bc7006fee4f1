//! The requests of one call, and their results.

use std::collections::VecDeque;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use seeward_runtime::{Error, Request, Result, Scores};

use crate::errors::{RequestError, raise};
use crate::requests::of_row;
use crate::windows::{WINDOW, Work};

/// Rewards, whether each response was cut, tokens, tiles.
pub(crate) type Scored = (Vec<f32>, Vec<bool>, usize, usize);

pub(crate) fn fields(scores: Scores) -> Scored {
    (
        scores.rewards,
        scores.truncated,
        scores.tokens,
        scores.tiles,
    )
}

/// The exception of a request that could not be read.
///
/// # Errors
/// What no request can cause, such as Ctrl-C.
pub(crate) fn unreadable(py: Python<'_>, error: PyErr) -> PyResult<PyErr> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let unread = RequestError::new_err(error.value(py).to_string());
    unread.set_cause(py, Some(error));
    Ok(unread)
}

/// Requests that are read window by window.
pub(crate) struct Batch<'py> {
    requests: Bound<'py, PyIterator>,
    raises: bool,
    progress: Option<Bound<'py, PyAny>>,
    /// For each request of each window in progress, its exception if it could not be read.
    unread: VecDeque<Vec<Option<PyErr>>>,
    results: Bound<'py, PyList>,
}

impl<'py> Batch<'py> {
    pub(crate) fn new(
        requests: &Bound<'py, PyAny>,
        raises: bool,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            requests: requests.try_iter()?,
            raises,
            progress,
            unread: VecDeque::new(),
            results: PyList::empty(requests.py()),
        })
    }

    pub(crate) fn into_results(self) -> Bound<'py, PyList> {
        self.results
    }

    fn push(&self, result: std::result::Result<Scored, PyErr>) -> PyResult<()> {
        match result {
            Ok(scored) => self.results.append(scored),
            Err(error) if self.raises => Err(error),
            Err(error) => self.results.append(error.into_value(self.results.py())),
        }
    }
}

impl Work for Batch<'_> {
    fn next(&mut self) -> PyResult<Option<Vec<Request>>> {
        let (mut window, mut unread) = (Vec::new(), Vec::new());
        for row in self.requests.by_ref().take(WINDOW) {
            let row = row?;
            match of_row(&row) {
                Ok(request) => {
                    window.push(request);
                    unread.push(None);
                }
                Err(error) => unread.push(Some(unreadable(row.py(), error)?)),
            }
        }
        if unread.is_empty() {
            return Ok(None);
        }
        self.unread.push_back(unread);
        Ok(Some(window))
    }

    fn done(&mut self, results: Vec<Result<Scores>>) -> PyResult<()> {
        let unread = self.unread.pop_front().unwrap_or_default();
        let (count, mut results) = (unread.len(), results.into_iter());
        for error in unread {
            let mut scores = || results.next().unwrap_or(Err(Error::Panicked)).map(fields);
            let read = |()| scores().map_err(|error| raise(&error));
            self.push(error.map_or(Ok(()), Err).and_then(read))?;
        }
        match &self.progress {
            Some(progress) => progress.call1((count,)).map(drop),
            None => Ok(()),
        }
    }
}
