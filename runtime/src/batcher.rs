//! Batching across callers: many threads ask, two of the batcher's own prepare and run what has come together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Promise};
use crate::{Error, Prepared, Request, Result, RewardModel, Scores, Usage};

/// How requests of several callers come together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most requests of a batch.
    pub requests: usize,
    /// How long a request waits for others while the engine is idle. While it is busy requests gather anyway.
    pub delay: Duration,
    /// Most requests that wait, those of the two batches on their way not counted.
    pub waiting: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            requests: 32,
            delay: Duration::from_millis(5),
            waiting: 256,
        }
    }
}

/// Scores requests of many callers together. Clones are handles of the same queue: give one to every thread or task.
///
/// ```
/// use seeward_runtime::{Batcher, Batching, Options, Request, RewardModel};
///
/// # const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/bundles/qwen2");
/// let model = RewardModel::load(BUNDLE, Options::default())?;
/// let batcher = Batcher::new(model, Batching::default())?;
/// let request = Request {
///     prompt: "Is water wet?".to_owned(),
///     responses: vec!["Yes.".to_owned()],
///     ..Request::default()
/// };
/// let answer = batcher.submit(request.clone())?; // Error::Busy when too many wait
/// println!("{:?}", answer.wait()?.rewards); // or `answer.await?` in async code, on any executor
/// println!("{:?}", batcher.score(request)?.rewards); // waits for a place in the queue, and for the answer
/// # Ok::<(), seeward_runtime::Error>(())
/// ```
///
/// **Threads.** The batcher has two: one reads, tokenises and packs the next batch while the other's is in the engine. They
/// end with [`close`](Self::close) or with the last handle; both wait until everything that was taken has been answered.
///
/// **Memory.** At most `waiting` requests in the queue, and two batches on their way.
///
/// **Cancellation.** Dropping an [`Answer`] takes its request out of the queue; one that is already in a batch is computed
/// in vain.
///
/// A request's neighbours do not change its rewards but for rounding.
#[derive(Clone)]
pub struct Batcher(Arc<Owner>);

/// The queue's threads, which end with the last handle.
struct Owner {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A request that waits.
struct Ticket {
    request: Request,
    promise: Promise,
    since: Instant,
}

/// Requests on their way to the engine.
struct Batch {
    promises: Vec<Promise>,
    prepared: Result<Prepared>,
}

pub(crate) struct Queue {
    batching: Batching,
    state: Mutex<State>,
    /// Something came, or nothing will any more.
    came: Condvar,
    /// There is room again, or there will be none any more.
    left: Condvar,
}

#[derive(Default)]
struct State {
    tickets: VecDeque<Ticket>,
    closed: bool,
    usage: Usage,
}

impl Batcher {
    /// Starts the threads.
    ///
    /// # Errors
    /// Batches or a queue of no requests; no threads to be had.
    pub fn new(model: RewardModel, batching: Batching) -> Result<Self> {
        for (name, value) in [
            ("requests", batching.requests),
            ("waiting", batching.waiting),
        ] {
            if value == 0 {
                let problem = format!("{name}: expected at least 1, got 0");
                return Err(Error::Options(problem));
            }
        }
        let queue = Arc::new(Queue {
            batching,
            state: Mutex::default(),
            came: Condvar::new(),
            left: Condvar::new(),
        });
        let batcher = Self(Arc::new(Owner {
            queue: queue.clone(),
            threads: Mutex::default(),
        }));
        // A batch waits for the engine, and no second one behind it: later requests still find company.
        let (ready, batches) = sync_channel(0);
        let (q, m) = (queue.clone(), model.clone());
        batcher.spawn("seeward-prepare", move || prepare(&q, &m, &ready))?;
        batcher.spawn("seeward-engine", move || run(&queue, &model, &batches))?;
        Ok(batcher)
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.map_err(|e| Error::Options(format!("threads: {e}")))?;
        lock(&self.0.threads).push(thread);
        Ok(())
    }

    /// Takes a request without ever blocking.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is full, [`Error::Closed`] behind [`close`](Self::close).
    pub fn submit(&self, request: Request) -> Result<Answer> {
        let queue = &self.0.queue;
        let state = queue.lock();
        match state.tickets.len() < queue.batching.waiting || state.closed {
            true => queue.take(state, request),
            false => Err(Error::Busy {
                waiting: state.tickets.len(),
            }),
        }
    }

    /// Takes a request, as soon as there is room for it, and waits for its scores.
    ///
    /// # Errors
    /// The request's own; [`Error::Batch`] when the engine failed; [`Error::Closed`].
    pub fn score(&self, request: Request) -> Result<Scores> {
        let queue = &self.0.queue;
        let full =
            |state: &mut State| state.tickets.len() >= queue.batching.waiting && !state.closed;
        let state = queue.left.wait_while(queue.lock(), full);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        queue.take(state, request)?.wait()
    }

    /// What all batches have taken so far.
    pub fn usage(&self) -> Usage {
        self.0.queue.lock().usage
    }

    /// Takes nothing more, and returns when all that was taken has been answered.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Owner {
    fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let here = thread::current().id();
        // The last handle may go in a waker that one of them calls; it cannot wait for itself.
        if threads.iter().all(|thread| thread.thread().id() != here) {
            for thread in threads {
                // What it panicked with has been printed, and its callers know.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn take(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        request: Request,
    ) -> Result<Answer> {
        if state.closed {
            return Err(Error::Closed);
        }
        let (promise, answer) = Promise::new(self.clone());
        state.tickets.push_back(Ticket {
            request,
            promise,
            since: Instant::now(),
        });
        self.came.notify_one();
        Ok(answer)
    }

    /// Takes the request of this answer out again, if it still waits.
    pub(crate) fn cancel(&self, answer: &Answer) {
        let mut state = self.lock();
        let index = state.tickets.iter().position(|t| t.promise.is_for(answer));
        let ticket = index.and_then(|index| state.tickets.remove(index));
        drop(state);
        if ticket.is_some() {
            self.left.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
        self.left.notify_all();
    }

    /// The next batch: full, or as full as it became within the delay. None once the queue is closed and empty.
    fn next(&self) -> Option<Vec<Ticket>> {
        let mut state = self.lock();
        loop {
            let Some(first) = state.tickets.front() else {
                if state.closed {
                    return None;
                }
                state = self
                    .came
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self.batching.delay.saturating_sub(first.since.elapsed());
            let full = state.tickets.len() >= self.batching.requests;
            if full || state.closed || left.is_zero() {
                break;
            }
            let waited = self.came.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.tickets.len().min(self.batching.requests);
        let batch = state.tickets.drain(..count).collect();
        drop(state);
        self.left.notify_all();
        Some(batch)
    }
}

/// Closes the queue when a thread ends, be it by panicking, and gives up what waits: nobody may wait for ever.
struct ClosesQueue<'a>(&'a Queue);

impl Drop for ClosesQueue<'_> {
    fn drop(&mut self) {
        self.0.close();
        let abandoned = std::mem::take(&mut self.0.lock().tickets);
        drop(abandoned);
    }
}

/// The first thread.
fn prepare(queue: &Queue, model: &RewardModel, ready: &SyncSender<Batch>) {
    let _guard = ClosesQueue(queue);
    while let Some(tickets) = queue.next() {
        let pairs = tickets.into_iter().map(|t| (t.request, t.promise));
        let (requests, promises): (Vec<_>, Vec<_>) = pairs.unzip();
        let prepared = unpanicked(|| model.prepare(&requests));
        if ready.send(Batch { promises, prepared }).is_err() {
            return;
        }
    }
}

/// The second one.
fn run(queue: &Queue, model: &RewardModel, batches: &Receiver<Batch>) {
    let _guard = ClosesQueue(queue);
    while let Ok(batch) = batches.recv() {
        let scored = batch.prepared.and_then(|p| unpanicked(|| model.run(p)));
        match scored {
            Ok(scored) => {
                queue.lock().usage += scored.usage;
                let answers = batch.promises.into_iter().zip(scored.results);
                answers.for_each(|(promise, result)| promise.keep(result));
            }
            Err(error) => {
                let error = Arc::new(error);
                let promises = batch.promises.into_iter();
                promises.for_each(|promise| promise.keep(Err(Error::Batch(error.clone()))));
            }
        }
    }
}

/// A panic, which would be a bug, costs its batch and not the service.
fn unpanicked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
