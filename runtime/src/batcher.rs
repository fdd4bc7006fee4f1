//! Batching across callers: requests of many threads gather in a queue; for each model two threads of the batcher prepare and
//! run them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Cancel, Promise};
use crate::batch_config::BatchConfig;
use crate::load::Load;
use crate::queue::{State, Ticket, Turn};
use crate::{Error, Prepared, Request, Result, RewardModel, Scored, Scores, Usage};

/// Scores requests of many callers together. Clones are handles of the same queue: give one to every thread or task.
///
/// ```no_run
/// use seeward_runtime::{BatchConfig, Batcher, Options, Request, RewardModel};
///
/// let model = RewardModel::load("bundles/mine", Options::default())?;
/// let batcher = Batcher::new(model, BatchConfig::default())?;
/// let request = Request::new("Is water wet?").response("Yes.");
/// let answer = batcher.submit(request.clone())?; // Error::QueueFull when too much is waiting
/// println!("{:?}", answer.wait()?.rewards); // or `answer.await?` in async code, on any executor
/// println!("{:?}", batcher.score(request)?.rewards); // waits for a place in the queue, and for the answer
/// # Ok::<(), seeward_runtime::Error>(())
/// ```
///
/// **Batches.** A batch is the oldest request and all waiting ones with equal prompt and images, which share both; then the
/// next oldest, until the batch is full or would take too long. With a `max_batch_size` of 1 rewards do not depend on other
/// requests at all; else by rounding.
///
/// **Threads.** The batcher has two for each model: one reads, tokenises and packs a batch, the other runs it. Once a full batch
/// is waiting, it is prepared while the engine runs the previous one. They end with [`close`](Self::close) or with the last handle; both wait until every accepted request has been answered.
///
/// **Devices.** Models of one bundle on several devices ([`of`](Self::of)) take their batches from the same queue.
///
/// **Memory.** At most `queue_bytes` of requests in the queue, and two batches in progress for each model.
///
/// **Cancellation.** Dropping an [`Answer`] removes its request from the queue; one that is already in a batch is computed,
/// and the result discarded.
#[derive(Clone)]
pub struct Batcher(Arc<Owner>);

/// The queue's threads, which end with the last handle.
struct Owner {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Requests that are ready for the engine.
struct Batch {
    /// With the time that each request waited.
    promises: Vec<(Promise, Duration)>,
    prepared: Result<Prepared>,
}

struct Queue {
    config: BatchConfig,
    /// The same bundle on each device.
    models: Vec<RewardModel>,
    state: Mutex<State>,
    /// Signalled when a request arrives, an announcement or a run ends, or the queue closes.
    changed: Condvar,
    /// Signalled when there is room again or the queue closes.
    freed: Condvar,
}

/// A request on its way to a [`Batcher`]: an idle engine waits for it, at most `max_delay`. It ends when dropped.
#[must_use = "dropping it ends the announcement"]
pub struct Announcement(Arc<Queue>);

/// What a [`Batcher`] is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatcherStatus {
    /// Requests that wait.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// The time since the start of the longest current run, if there is one.
    pub running: Option<Duration>,
    /// The work of all batches so far.
    pub usage: Usage,
}

impl Batcher {
    /// Starts the threads of a model.
    ///
    /// # Errors
    /// A batch size or queue capacity of zero; threads that cannot be started.
    pub fn new(model: RewardModel, config: BatchConfig) -> Result<Self> {
        Self::of(vec![model], config)
    }

    /// Starts the threads of one bundle on several devices. Devices of different kinds round differently, so that a reward
    /// would depend on which of them is free.
    ///
    /// # Errors
    /// Those of [`new`](Self::new); no model, models of different bundles, or devices of different kinds.
    pub fn of(models: Vec<RewardModel>, config: BatchConfig) -> Result<Self> {
        config.validate()?;
        check_alike(&models)?;
        let queue = Arc::new(Queue {
            config,
            state: Mutex::new(State::new(models.len())),
            models,
            changed: Condvar::new(),
            freed: Condvar::new(),
        });
        let batcher = Self(Arc::new(Owner {
            queue: queue.clone(),
            threads: Mutex::default(),
        }));
        for engine in 0..queue.models.len() {
            batcher.start(engine)?;
        }
        Ok(batcher)
    }

    /// Starts the two threads of the model with this index.
    fn start(&self, engine: usize) -> Result<()> {
        // One batch at most waits for the engine, so that later requests still gather.
        let (ready, batches) = sync_channel(0);
        let [first, second] = [self.0.queue.clone(), self.0.queue.clone()];
        self.spawn("seeward-prepare", move || prepare(&first, engine, &ready))?;
        self.spawn("seeward-engine", move || run(&second, engine, &batches))
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.map_err(|e| Error::Options(format!("threads: {e}")))?;
        lock(&self.0.threads).push(thread);
        Ok(())
    }

    /// Accepts a request without waiting for room. Reads the headers of its images.
    ///
    /// # Errors
    /// [`Error::QueueFull`]; [`Error::Closed`] after [`close`](Self::close).
    pub fn submit(&self, request: Request) -> Result<Answer> {
        let queue = &self.0.queue;
        let (load, capacity) = (queue.load_of(&request), queue.config.queue_bytes);
        let state = queue.lock();
        match state.has_room(&load, capacity) || state.closed {
            true => queue.accept(state, request, load),
            false => Err(Error::QueueFull { capacity }),
        }
    }

    /// Accepts a request as soon as there is room for it, and waits for its scores.
    ///
    /// # Errors
    /// The request's own; [`Error::Batch`] when the engine failed; [`Error::Closed`].
    pub fn score(&self, request: Request) -> Result<Scores> {
        let queue = &self.0.queue;
        let (load, capacity) = (queue.load_of(&request), queue.config.queue_bytes);
        let full = |state: &mut State| !state.has_room(&load, capacity) && !state.closed;
        let state = queue.freed.wait_while(queue.lock(), full);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        queue.accept(state, request, load)?.wait()
    }

    /// Says that a request is on its way, for example while its body is being read.
    pub fn announce(&self) -> Announcement {
        let queue = self.0.queue.clone();
        queue.lock().announced += 1;
        Announcement(queue)
    }

    /// The work of all batches so far.
    pub fn usage(&self) -> Usage {
        self.0.queue.lock().usage
    }

    /// What the batcher is doing now.
    pub fn status(&self) -> BatcherStatus {
        let state = self.0.queue.lock();
        let (waiting, waiting_bytes) = state.waiting();
        BatcherStatus {
            waiting,
            waiting_bytes,
            running: state.running(),
            usage: state.usage,
        }
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

    fn load_of(&self, request: &Request) -> Load {
        // What a request is made of depends on the bundle alone.
        self.models[0].load_of(request)
    }

    fn accept(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        request: Request,
        load: Load,
    ) -> Result<Answer> {
        if state.closed {
            return Err(Error::Closed);
        }
        let (promise, answer) = Promise::new(self.clone());
        state.push(Ticket {
            request,
            promise,
            load,
            since: Instant::now(),
        });
        self.changed.notify_all();
        Ok(answer)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        self.freed.notify_all();
    }

    /// The next batch for an engine; none once the queue is closed and empty.
    fn next(&self, engine: usize) -> Option<Vec<Ticket>> {
        let mut state = self.lock();
        loop {
            state = match state.turn(&self.config, engine) {
                Turn::Take => break,
                Turn::End => return None,
                Turn::Wait(None) => {
                    let woken = self.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Turn::Wait(Some(delay)) => {
                    let woken = self.changed.wait_timeout(state, delay);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let batch = state.take(&self.config, engine, &self.models[engine].pace());
        drop(state);
        self.freed.notify_all();
        Some(batch)
    }

    /// Runs a batch.
    fn run(&self, engine: usize, batch: Batch) {
        self.lock().engines[engine].running_since = Some(Instant::now());
        let run = |prepared| catch_panic(|| self.models[engine].run(prepared));
        let scored = batch.prepared.and_then(run);
        let mut state = self.lock();
        state.engines[engine].running_since = None;
        state.engines[engine].in_progress -= 1;
        if let Ok(scored) = &scored {
            state.usage += scored.usage;
        }
        drop(state);
        self.changed.notify_all();
        answer(batch.promises, scored);
    }
}

impl Cancel for Queue {
    fn cancel(&self, answer: &Answer) {
        let ticket = self.lock().cancel(answer);
        if ticket.is_some() {
            self.freed.notify_all();
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.0.lock().announced -= 1;
        self.0.changed.notify_all();
    }
}

/// Closes the queue when a thread ends, even by a panic, and drops waiting requests, so that no caller waits forever.
struct ClosesQueue<'a>(&'a Queue);

impl Drop for ClosesQueue<'_> {
    fn drop(&mut self) {
        self.0.close();
        let abandoned = self.0.lock().abandon();
        drop(abandoned);
    }
}

/// The first thread of an engine.
fn prepare(queue: &Queue, engine: usize, ready: &SyncSender<Batch>) {
    let _guard = ClosesQueue(queue);
    while let Some(tickets) = queue.next(engine) {
        let part = |t: Ticket| (t.request, (t.promise, t.since.elapsed()));
        let (requests, promises): (Vec<_>, Vec<_>) = tickets.into_iter().map(part).unzip();
        let prepared = catch_panic(|| queue.models[engine].prepare(&requests));
        if ready.send(Batch { promises, prepared }).is_err() {
            return;
        }
    }
}

/// The second thread of an engine.
fn run(queue: &Queue, engine: usize, batches: &Receiver<Batch>) {
    let _guard = ClosesQueue(queue);
    while let Ok(batch) = batches.recv() {
        queue.run(engine, batch);
    }
}

/// Checks that it does not matter for a reward which model is free.
fn check_alike(models: &[RewardModel]) -> Result<()> {
    let problem = |problem: &str| Error::Options(format!("batcher: {problem}"));
    let Some((first, others)) = models.split_first() else {
        return Err(problem("expected a model, got none"));
    };
    for other in others {
        if other.bundle().hash() != first.bundle().hash() {
            return Err(problem("expected the same bundle on every device"));
        }
        if other.device().provider() != first.device().provider() {
            return Err(problem("expected devices of one kind, which round alike"));
        }
    }
    Ok(())
}

/// Gives each request its scores, or all of them the engine's error.
fn answer(promises: Vec<(Promise, Duration)>, scored: Result<Scored>) {
    match scored {
        Ok(scored) => {
            for ((promise, queued), mut result) in promises.into_iter().zip(scored.results) {
                if let Ok(scores) = &mut result {
                    scores.times.queue = queued;
                }
                promise.fill(result);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (promise, _) in promises {
                promise.fill(Err(Error::Batch(error.clone())));
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
