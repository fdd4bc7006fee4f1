//! The threads of a run: one reads and prepares windows, one per device scores them, and the caller's writes them in the
//! order of the input.
//!
//! ```text
//! input ─ read, decode, tile, tokenise, pack ─► [ windows ] ─► device 0 ─┬─► in order ─► [ lines ] ─► write
//!   ▲                                                     └──► device 1 ─┘      │
//!   └───────────────────────── permits: limit the windows in flight ───────────┘
//! ```
//!
//! The lines of a window depend on the window alone, so the number and speed of the devices do not change the output.
//! Permits limit the memory of images: a window is read only when an earlier one is scored. Scoring waits for the disk
//! only if 64 windows are queued.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use seeward_models::process::{Signal, Stop};
use seeward_runtime::RewardModel;

use super::input::{Input, Position, WINDOW_ROWS};
use super::window::{self, Reader, Ready, Window};

/// Capacity of the queue of windows to be written.
const UNWRITTEN: usize = 64;
/// Minimum time between two writes, and so the work that a power failure can lose, with the windows in flight. Windows of
/// large models take longer and are written one by one; those of a tiny model take less time than a sync.
const PAUSE: Duration = Duration::from_millis(100);

/// Scores windows until a signal interrupts.
pub(super) struct Pipeline<'a> {
    /// The same bundle on each device.
    pub(super) models: &'a [RewardModel],
    pub(super) reader: Reader<'a>,
    pub(super) stop: &'a Stop,
}

/// A result with its place in the order of the input.
type Numbered<T> = (u64, Result<T>);
/// A prepared window, and its end in the input.
type Waiting = (Ready, Position);
/// A scored window, and its end in the input; `None` if a signal came before it was scored.
type Done = Option<(Window, Position)>;

impl Pipeline<'_> {
    /// Scores the input to its end or until a signal, which is returned; then only the windows in the engine are finished.
    /// `write` gets the windows in the order of the input, joined if they are faster than writes.
    ///
    /// # Errors
    /// The input cannot be read, the engine failed, or `write` failed.
    pub(super) fn run(
        &self,
        input: &mut Input,
        write: impl FnMut(Window, Position) -> Result<()>,
    ) -> Result<Option<Signal>> {
        thread::scope(|scope| {
            let (permits, permitted) = channel();
            let (ready, waiting) = channel();
            let (finished, done) = channel();
            let (ordered, unwritten) = sync_channel(UNWRITTEN);
            let waiting = Arc::new(Mutex::new(waiting));
            for model in self.models {
                let (waiting, finished) = (waiting.clone(), finished.clone());
                scope.spawn(move || self.score(model, &waiting, &finished));
            }
            drop(finished);
            let reader = scope.spawn(move || self.read(input, &permitted, &ready));
            // For each device one window in the engine and one waiting; one being prepared, and one spare.
            (0..2 * self.models.len() + 2).for_each(|_| permit(&permits));
            scope.spawn(move || order(done, &permits, &ordered));
            let written = write_groups(unwritten, write)?;
            let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok(self.stop.signal().filter(|_| read != Some(written)))
        })
    }

    /// Prepares windows as permitted. Returns their number if it reached the end of the input.
    fn read(
        &self,
        input: &mut Input,
        permitted: &Receiver<()>,
        ready: &Sender<Numbered<Waiting>>,
    ) -> Option<u64> {
        for number in 0.. {
            permitted.recv().ok()?;
            if self.stop.signal().is_some() {
                return None;
            }
            let window = self.next(input).transpose();
            let Some(window) = window else {
                return Some(number);
            };
            let failed = window.is_err();
            ready.send((number, window)).ok()?;
            if failed {
                return None;
            }
        }
        None
    }

    /// Reads and prepares the next window.
    fn next(&self, input: &mut Input) -> Result<Option<Waiting>> {
        let rows = input.window(WINDOW_ROWS)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let ready = window::prepare(&self.models[0], &self.reader, rows)?;
        Ok(Some((ready, input.position())))
    }

    /// Scores windows until both channels close.
    fn score(
        &self,
        model: &RewardModel,
        waiting: &Mutex<Receiver<Numbered<Waiting>>>,
        finished: &Sender<Numbered<Done>>,
    ) {
        let next = || {
            let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.recv()
        };
        while let Ok((number, window)) = next() {
            let done = window.and_then(|window| self.score_one(model, window));
            if finished.send((number, done)).is_err() {
                return;
            }
        }
    }

    fn score_one(&self, model: &RewardModel, (ready, position): Waiting) -> Result<Done> {
        if self.stop.signal().is_some() {
            return Ok(None);
        }
        // Without a result for this number, the writer would wait forever.
        let window = catch_unwind(AssertUnwindSafe(|| window::score(model, ready)));
        let window =
            window.map_err(|_| anyhow!("{}: the engine's thread panicked", model.device()))?;
        Ok(Some((window?, position)))
    }
}

/// Forwards windows in the order of their numbers, and permits another window for each.
fn order(
    incoming: Receiver<Numbered<Done>>,
    permits: &Sender<()>,
    ordered: &SyncSender<Result<Done>>,
) {
    for done in in_order(incoming) {
        permit(permits);
        if ordered.send(done).is_err() {
            return;
        }
    }
}

/// Writes windows until there are no more, one failed or one was not scored. Returns the number written.
fn write_groups(
    unwritten: Receiver<Result<Done>>,
    mut write: impl FnMut(Window, Position) -> Result<()>,
) -> Result<u64> {
    let (mut written, mut last_write) = (0, None::<Instant>);
    while let Ok(first) = unwritten.recv() {
        let Some((mut group, mut position)) = first? else {
            break;
        };
        written += 1;
        let pause_over = last_write.map_or_else(Instant::now, |last| last + PAUSE);
        let next = || unwritten.recv_timeout(pause_over.saturating_duration_since(Instant::now()));
        let mut end = None;
        while let (None, Ok(next)) = (&end, next()) {
            match next {
                Ok(Some((window, at))) => {
                    (group, position) = (group.and(window), at);
                    written += 1;
                }
                other => end = Some(other),
            }
        }
        write(group, position)?;
        last_write = Some(Instant::now());
        if let Some(end) = end {
            end?;
            break;
        }
    }
    Ok(written)
}

fn permit(permits: &Sender<()>) {
    // The receiver is gone once the input has been read.
    let _ = permits.send(());
}

/// Yields items in the order of their numbers, from 0 and without a gap.
fn in_order<T>(incoming: Receiver<(u64, T)>) -> impl Iterator<Item = T> {
    let (mut early, mut next) = (BTreeMap::new(), 0);
    std::iter::from_fn(move || {
        while !early.contains_key(&next) {
            let (number, item) = incoming.recv().ok()?;
            early.insert(number, item);
        }
        next += 1;
        early.remove(&(next - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups that are written, for windows of one row each.
    fn written(windows: Vec<Result<Done>>) -> (Result<u64>, Vec<u64>) {
        let (sender, receiver) = channel();
        windows
            .into_iter()
            .for_each(|done| sender.send(done).unwrap());
        drop(sender);
        let mut groups = Vec::new();
        let result = write_groups(receiver, |window, _| {
            groups.push(window.rows);
            Ok(())
        });
        (result, groups)
    }

    fn of_one_row() -> Result<Done> {
        let window = Window {
            rows: 1,
            ..Window::default()
        };
        Ok(Some((window, Position::start())))
    }

    #[test]
    fn windows_that_come_fast_are_written_together() {
        let (result, groups) = written((0..5).map(|_| of_one_row()).collect());
        assert_eq!(result.unwrap(), 5);
        assert_eq!(groups.iter().sum::<u64>(), 5);
        assert!(groups.len() < 5, "{groups:?}");
    }

    #[test]
    fn windows_before_a_failure_are_written() {
        let failed = || Err(anyhow!("failed"));
        let (result, groups) = written(vec![of_one_row(), of_one_row(), failed(), of_one_row()]);
        assert_eq!(result.unwrap_err().to_string(), "failed");
        assert_eq!(groups.iter().sum::<u64>(), 2);
        let (result, groups) = written(vec![of_one_row(), of_one_row(), Ok(None), of_one_row()]);
        assert_eq!((result.unwrap(), groups.iter().sum()), (2, 2));
    }

    #[test]
    fn an_early_window_waits_for_its_turn() {
        let (sender, receiver) = channel();
        for number in [2, 0, 1, 4] {
            sender.send((number, number * 10)).unwrap();
        }
        drop(sender);
        // 3 is missing, so nothing after it may be written.
        assert_eq!(in_order(receiver).collect::<Vec<_>>(), [0, 10, 20]);
    }
}
