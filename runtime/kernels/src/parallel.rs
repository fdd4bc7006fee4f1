//! The loop over tasks that kernels leave to their caller's threads.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

/// A way to run tasks, usually a thread pool.
pub trait ParallelFor {
    /// Why tasks could not be run.
    type Error;

    /// Calls `body` once with each index below `count`, in any order and on any threads, and returns after the last call.
    ///
    /// # Errors
    /// The pool's own.
    fn for_each(&self, count: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Self::Error>;
}

/// One task after the other on the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Serial;

impl ParallelFor for Serial {
    type Error = Infallible;

    fn for_each(&self, count: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Infallible> {
        (0..count).for_each(body);
        Ok(())
    }
}

/// Gives each task to one call of `body`.
pub(crate) fn run_tasks<T: Send, P: ParallelFor>(
    parallel: &P,
    tasks: impl Iterator<Item = T>,
    body: impl Fn(T) + Sync,
) -> Result<(), P::Error> {
    let tasks: Vec<_> = tasks.map(|task| Mutex::new(Some(task))).collect();
    parallel.for_each(tasks.len(), &|index| {
        let mut task = tasks[index].lock().unwrap_or_else(PoisonError::into_inner);
        let task = task.take();
        task.into_iter().for_each(&body);
    })
}
