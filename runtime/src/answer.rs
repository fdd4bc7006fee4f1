//! A pending answer: a thread can wait for it, async code can await it on any executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::{Error, Result, Scores};

/// The pending scores of a request in a [`Batcher`](crate::Batcher): a future, with a blocking [`wait`](Self::wait) too.
/// Dropping it cancels the request.
#[must_use = "dropping it cancels the request"]
pub struct Answer {
    slot: Arc<Slot>,
    queue: Arc<dyn Cancel>,
}

/// A queue that a request can be removed from.
pub(crate) trait Cancel: Send + Sync {
    /// Removes the request of this answer, if it is still waiting.
    fn cancel(&self, answer: &Answer);
}

/// The other end of an answer, which fills it; dropped unfilled, it fills it with [`Error::Closed`].
pub(crate) struct Promise(Arc<Slot>);

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<Scores>>,
    waker: Option<Waker>,
}

impl Answer {
    /// Waits for the scores.
    ///
    /// # Errors
    /// The request's own; [`Error::Batch`] when the engine failed on its batch.
    pub fn wait(self) -> Result<Scores> {
        let mut state = self.slot.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            let filled = self.slot.filled.wait(state);
            state = filled.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Answer {
    type Output = Result<Scores>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.queue.cancel(self);
    }
}

impl Promise {
    pub(crate) fn new(queue: Arc<dyn Cancel>) -> (Self, Answer) {
        let slot = Arc::new(Slot::default());
        (Self(slot.clone()), Answer { slot, queue })
    }

    /// Whether it fills this answer.
    pub(crate) fn is_for(&self, answer: &Answer) -> bool {
        Arc::ptr_eq(&self.0, &answer.slot)
    }

    /// Fills the answer.
    pub(crate) fn fill(self, result: Result<Scores>) {
        self.0.fill(result);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        // Without effect on an answer that was filled before.
        self.0.fill(Err(Error::Closed));
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first result counts.
    fn fill(&self, result: Result<Scores>) {
        let mut state = self.lock();
        state.result.get_or_insert(result);
        let waker = state.waker.take();
        drop(state);
        self.filled.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}
