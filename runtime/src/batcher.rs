//! Batching across callers: requests of many threads gather in a queue; two threads of the batcher prepare and run them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Cancel, Promise};
use crate::{Error, Prepared, Request, Result, RewardModel, Scores, Usage};

/// How requests of several callers are batched.
///
/// ```
/// use seeward_runtime::BatchConfig;
///
/// let config = BatchConfig::default().max_batch_size(8).queue_capacity(64);
/// assert_eq!(config.max_batch_size, 8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchConfig {
    /// The maximum number of requests of a batch.
    pub max_batch_size: usize,
    /// The maximum time that a request waits for others while the engine is idle. While it is busy requests gather anyway.
    pub max_delay: Duration,
    /// The maximum number of waiting requests, those of the two batches in progress not counted.
    pub queue_capacity: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_batch_size: 32,
            max_delay: Duration::from_millis(5),
            queue_capacity: 256,
        }
    }
}

impl BatchConfig {
    /// Sets [`max_batch_size`](Self#structfield.max_batch_size).
    #[must_use]
    pub fn max_batch_size(mut self, requests: usize) -> Self {
        self.max_batch_size = requests;
        self
    }

    /// Sets [`max_delay`](Self#structfield.max_delay).
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets [`queue_capacity`](Self#structfield.queue_capacity).
    #[must_use]
    pub fn queue_capacity(mut self, requests: usize) -> Self {
        self.queue_capacity = requests;
        self
    }

    fn validate(&self) -> Result<()> {
        let values = [
            ("max_batch_size", self.max_batch_size),
            ("queue_capacity", self.queue_capacity),
        ];
        match values.iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((name, _)) => {
                let problem = format!("{name}: expected at least 1, got 0");
                Err(Error::Options(problem))
            }
        }
    }
}

/// Scores requests of many callers together. Clones are handles of the same queue: give one to every thread or task.
///
/// ```no_run
/// use seeward_runtime::{BatchConfig, Batcher, Options, Request, RewardModel};
///
/// let model = RewardModel::load("bundles/mine", Options::default())?;
/// let batcher = Batcher::new(model, BatchConfig::default())?;
/// let request = Request::new("Is water wet?").response("Yes.");
/// let answer = batcher.submit(request.clone())?; // Error::QueueFull when too many are waiting
/// println!("{:?}", answer.wait()?.rewards); // or `answer.await?` in async code, on any executor
/// println!("{:?}", batcher.score(request)?.rewards); // waits for a place in the queue, and for the answer
/// # Ok::<(), seeward_runtime::Error>(())
/// ```
///
/// **Threads.** The batcher has two: one reads, tokenises and packs the next batch while the engine runs the previous one. They
/// end with [`close`](Self::close) or with the last handle; both wait until every accepted request has been answered.
///
/// **Memory.** At most `queue_capacity` requests in the queue, and two batches in progress.
///
/// **Cancellation.** Dropping an [`Answer`] removes its request from the queue; one that is already in a batch is computed,
/// and the result discarded.
///
/// A request's neighbours change its rewards by rounding at most.
#[derive(Clone)]
pub struct Batcher(Arc<Owner>);

/// The queue's threads, which end with the last handle.
struct Owner {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A waiting request.
struct Ticket {
    request: Request,
    promise: Promise,
    since: Instant,
}

/// Requests that are ready for the engine.
struct Batch {
    promises: Vec<Promise>,
    prepared: Result<Prepared>,
}

struct Queue {
    config: BatchConfig,
    state: Mutex<State>,
    /// Signalled when a request arrives or the queue closes.
    arrived: Condvar,
    /// Signalled when there is room again or the queue closes.
    freed: Condvar,
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
    /// A batch size or queue capacity of zero; threads that cannot be started.
    pub fn new(model: RewardModel, config: BatchConfig) -> Result<Self> {
        config.validate()?;
        let queue = Arc::new(Queue {
            config,
            state: Mutex::default(),
            arrived: Condvar::new(),
            freed: Condvar::new(),
        });
        let batcher = Self(Arc::new(Owner {
            queue: queue.clone(),
            threads: Mutex::default(),
        }));
        // One batch at most waits for the engine, so that later requests still gather.
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

    /// Accepts a request without blocking.
    ///
    /// # Errors
    /// [`Error::QueueFull`]; [`Error::Closed`] after [`close`](Self::close).
    pub fn submit(&self, request: Request) -> Result<Answer> {
        let queue = &self.0.queue;
        let state = queue.lock();
        let capacity = queue.config.queue_capacity;
        match state.tickets.len() < capacity || state.closed {
            true => queue.accept(state, request),
            false => Err(Error::QueueFull { capacity }),
        }
    }

    /// Accepts a request as soon as there is room for it, and waits for its scores.
    ///
    /// # Errors
    /// The request's own; [`Error::Batch`] when the engine failed; [`Error::Closed`].
    pub fn score(&self, request: Request) -> Result<Scores> {
        let queue = &self.0.queue;
        let capacity = queue.config.queue_capacity;
        let full = |state: &mut State| state.tickets.len() >= capacity && !state.closed;
        let state = queue.freed.wait_while(queue.lock(), full);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        queue.accept(state, request)?.wait()
    }

    /// The work of all batches so far.
    pub fn usage(&self) -> Usage {
        self.0.queue.lock().usage
    }

    /// Accepts no more requests, and returns when every accepted one has been answered.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Owner {
    fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let here = thread::current().id();
        // The last handle may be dropped in a waker that one of these threads calls; it cannot wait for itself.
        if threads.iter().all(|thread| thread.thread().id() != here) {
            for thread in threads {
                // A panic has been printed, and its callers have an error.
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

    fn accept(
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
        self.arrived.notify_one();
        Ok(answer)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.freed.notify_all();
    }

    /// The next batch: full, or the requests that arrived within the delay. None once the queue is closed and empty.
    fn next(&self) -> Option<Vec<Ticket>> {
        let mut state = self.lock();
        loop {
            let Some(first) = state.tickets.front() else {
                if state.closed {
                    return None;
                }
                let woken = self.arrived.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let remaining = self.config.max_delay.saturating_sub(first.since.elapsed());
            let full = state.tickets.len() >= self.config.max_batch_size;
            if full || state.closed || remaining.is_zero() {
                break;
            }
            let woken = self.arrived.wait_timeout(state, remaining);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.tickets.len().min(self.config.max_batch_size);
        let batch = state.tickets.drain(..count).collect();
        drop(state);
        self.freed.notify_all();
        Some(batch)
    }
}

impl Cancel for Queue {
    fn cancel(&self, answer: &Answer) {
        let mut state = self.lock();
        let index = state.tickets.iter().position(|t| t.promise.is_for(answer));
        let ticket = index.and_then(|index| state.tickets.remove(index));
        drop(state);
        if ticket.is_some() {
            self.freed.notify_one();
        }
    }
}

/// Closes the queue when a thread ends, even by a panic, and drops waiting requests, so that no caller waits forever.
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
        let prepared = catch_panic(|| model.prepare(&requests));
        if ready.send(Batch { promises, prepared }).is_err() {
            return;
        }
    }
}

/// The second thread.
fn run(queue: &Queue, model: &RewardModel, batches: &Receiver<Batch>) {
    let _guard = ClosesQueue(queue);
    while let Ok(batch) = batches.recv() {
        let scored = batch.prepared.and_then(|p| catch_panic(|| model.run(p)));
        match scored {
            Ok(scored) => {
                queue.lock().usage += scored.usage;
                let answers = batch.promises.into_iter().zip(scored.results);
                answers.for_each(|(promise, result)| promise.fill(result));
            }
            Err(error) => {
                let error = Arc::new(error);
                let promises = batch.promises.into_iter();
                promises.for_each(|promise| promise.fill(Err(Error::Batch(error.clone()))));
            }
        }
    }
}

/// Turns a panic, which would be a bug, into an error of its batch.
fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
