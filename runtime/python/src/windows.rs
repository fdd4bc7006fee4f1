//! Requests of one call in windows: one is prepared while the engine runs another and Python hands over a third.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use seeward_runtime::{Error, Prepared, Request, Result, RewardModel, Scores};

use crate::errors::raise;

/// As many as `seeward-score` scores together, so that equal rows give equal bits.
pub(crate) const WINDOW: usize = 32;
/// Windows in progress: in the engine, prepared, and handed over.
const AHEAD: usize = 3;
/// The longest time until Ctrl-C is noticed.
const PAUSE: Duration = Duration::from_millis(50);

/// Where windows come from, and where their results go, in the same order. Both run under the interpreter's lock.
pub(crate) trait Work {
    /// The next window; none at the end.
    fn next(&mut self) -> PyResult<Option<Vec<Request>>>;
    /// Takes the results of the oldest window.
    fn done(&mut self, results: Vec<Result<Scores>>) -> PyResult<()>;
}

/// What comes out of the engine: a window's results, or its failure.
type Scored = Mutex<Receiver<Result<Vec<Result<Scores>>>>>;

/// Does the work.
///
/// # Errors
/// The engine failed, a signal's handler raised, or the work did. Windows in the engine are finished before it returns.
pub(crate) fn score(py: Python<'_>, model: &RewardModel, work: &mut impl Work) -> PyResult<()> {
    let (requests, unprepared) = sync_channel(AHEAD);
    let (prepared, ready) = sync_channel(0);
    let (finished, scored) = channel();
    let scored = Mutex::new(scored);
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| prepare(model, unprepared, prepared)),
            scope.spawn(|| run(model, ready, finished)),
        ];
        let result = drive(py, &requests, &scored, work);
        drop(requests);
        // A panic has been printed, and its window has no result.
        py.detach(|| threads.map(|thread| thread.join().is_ok()));
        result
    })
}

fn drive(
    py: Python<'_>,
    requests: &SyncSender<Vec<Request>>,
    scored: &Scored,
    work: &mut impl Work,
) -> PyResult<()> {
    let (mut pending, mut is_over) = (0, false);
    loop {
        while !is_over && pending < AHEAD {
            match work.next()? {
                // A closed channel shows as a missing result.
                Some(window) => drop(requests.send(window)),
                None => is_over = true,
            }
            pending += usize::from(!is_over);
        }
        if pending == 0 {
            return Ok(());
        }
        let results = receive(py, scored)?.map_err(|error| raise(&error))?;
        work.done(results)?;
        pending -= 1;
    }
}

/// Waits for a window's results, and runs the handlers of signals.
fn receive(py: Python<'_>, scored: &Scored) -> PyResult<Result<Vec<Result<Scores>>>> {
    let wait = || {
        let scored = scored.lock().unwrap_or_else(PoisonError::into_inner);
        scored.recv_timeout(PAUSE)
    };
    loop {
        py.check_signals()?;
        match py.detach(wait) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(Error::Panicked)),
        }
    }
}

/// The first thread.
fn prepare(
    model: &RewardModel,
    windows: Receiver<Vec<Request>>,
    prepared: SyncSender<Result<Prepared>>,
) {
    for requests in windows {
        if prepared.send(model.prepare(&requests)).is_err() {
            return;
        }
    }
}

/// The second thread.
fn run(
    model: &RewardModel,
    ready: Receiver<Result<Prepared>>,
    finished: Sender<Result<Vec<Result<Scores>>>>,
) {
    for prepared in ready {
        let scored = prepared.and_then(|prepared| model.run(prepared));
        if finished.send(scored.map(|scored| scored.results)).is_err() {
            return;
        }
    }
}
