//! Windows on their way: read and prepared by one thread, scored by one for each device, written in the input's order by
//! the caller's.
//!
//! ```text
//! input ─ read, decode, tile, tokenise, pack ─► [ windows ] ─► device 0 ─┬─► in order ─► [ lines ] ─► write
//!   ▲                                                     └──► device 1 ─┘      │
//!   └───────────────────────── permits: so many windows are on their way ──────┘
//! ```
//!
//! What a window gives depends on the window alone, so neither the number of devices nor their pace shows in the output.
//! Permits bound the memory of pictures: a window is read only when an earlier one has become lines. Engines need not wait
//! for the disk, which takes its time to be sure of what it was given, unless many windows' lines wait for it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use seeward_runtime::RewardModel;

use super::WINDOW_ROWS;
use super::input::{Input, Position};
use super::window::{self, Reader, Ready, Window};
use crate::stop::{Signal, Stop};

/// Windows whose lines may wait to be written.
const UNWRITTEN: usize = 64;
/// The shortest time from one write to the next, and what a dying machine may lose beside the windows on their way. Windows
/// of large models take longer and are written one by one; a tiny model's are scored in less time than a sync may take.
const PAUSE: Duration = Duration::from_millis(100);

/// What scores windows, and what can end it early.
pub(super) struct Pipeline<'a> {
    /// The same bundle on each device.
    pub(super) models: &'a [RewardModel],
    pub(super) reader: Reader<'a>,
    pub(super) stop: &'a Stop,
}

/// Something with its place in the input's order.
type Numbered<T> = (u64, Result<T>);
/// A window that the engine can take, and where in the input it ends.
type Waiting = (Ready, Position);
/// What a window gave, and where in the input it ends; nothing where a signal came before it was begun.
type Done = Option<(Window, Position)>;

impl Pipeline<'_> {
    /// Scores the input to its end, or until a signal asks to stop: then windows in the engine are finished, and no others
    /// begun. `write` gets what windows gave, in the input's order, and several at once where they come fast.
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
            // One in each device, one waiting for each, one in the making, and one to spare.
            (0..2 * self.models.len() + 2).for_each(|_| permit(&permits));
            scope.spawn(move || order(done, &permits, &ordered));
            let written = write_groups(unwritten, write)?;
            let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok(self.stop.signal().filter(|_| read != Some(written)))
        })
    }

    /// Makes windows ready as permitted; how many the input has, if it came to its end.
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

    /// The next window of rows, ready for the engine.
    fn next(&self, input: &mut Input) -> Result<Option<Waiting>> {
        let rows = input.window(WINDOW_ROWS)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let ready = window::prepare(&self.models[0], &self.reader, rows)?;
        Ok(Some((ready, input.position())))
    }

    /// Scores windows as they become ready, until there are no more or nobody wants them.
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
        // The writer would wait for ever for what a panic has swallowed.
        let window = catch_unwind(AssertUnwindSafe(|| window::score(model, ready)));
        let window =
            window.map_err(|_| anyhow!("{}: the engine's thread panicked", model.device()))?;
        Ok(Some((window?, position)))
    }
}

/// Passes on what comes in by its number, and permits another window for each.
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

/// Writes what windows gave until there are no more, one failed or was not begun; how many were written.
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
    // Nobody listens once the input has been read.
    let _ = permits.send(());
}

/// Hands out what comes in by its number, from 0 on and without a gap.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is written of windows of one row each.
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
    fn what_was_scored_before_a_failure_is_written() {
        let failed = || Err(anyhow!("failed"));
        let (result, groups) = written(vec![of_one_row(), of_one_row(), failed(), of_one_row()]);
        assert_eq!(result.unwrap_err().to_string(), "failed");
        assert_eq!(groups.iter().sum::<u64>(), 2);
        let (result, groups) = written(vec![of_one_row(), of_one_row(), Ok(None), of_one_row()]);
        assert_eq!((result.unwrap(), groups.iter().sum()), (2, 2));
    }

    #[test]
    fn what_comes_early_waits_for_its_turn() {
        let (sender, receiver) = channel();
        for number in [2, 0, 1, 4] {
            sender.send((number, number * 10)).unwrap();
        }
        drop(sender);
        // Nothing is known of 3, so nothing behind it may be written.
        assert_eq!(in_order(receiver).collect::<Vec<_>>(), [0, 10, 20]);
    }
}
