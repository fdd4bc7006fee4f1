//! The waiting requests of a batcher, and the choice of the next batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::answer::{Answer, Promise};
use crate::batch_config::BatchConfig;
use crate::load::{Load, Pace};
use crate::{Request, Usage};

/// A waiting request.
pub(crate) struct Ticket {
    pub(crate) request: Request,
    pub(crate) promise: Promise,
    pub(crate) load: Load,
    pub(crate) since: Instant,
}

/// What one engine is doing.
#[derive(Clone, Default)]
pub(crate) struct Engine {
    /// Batches that were taken and are not answered yet.
    pub(crate) in_progress: usize,
    /// The start of the current run.
    pub(crate) running_since: Option<Instant>,
}

/// The requests that wait, and what is on its way.
pub(crate) struct State {
    tickets: VecDeque<Ticket>,
    /// Bytes of the waiting requests.
    bytes: usize,
    /// Requests that callers have announced.
    pub(crate) announced: usize,
    pub(crate) engines: Vec<Engine>,
    pub(crate) closed: bool,
    pub(crate) usage: Usage,
}

/// What the thread that prepares batches should do.
pub(crate) enum Turn {
    /// Take the next batch.
    Take,
    /// Wait for a signal, at most this long.
    Wait(Option<Duration>),
    /// End: the queue is closed and empty.
    End,
}

impl State {
    /// The state of a number of idle engines.
    pub(crate) fn new(engines: usize) -> Self {
        Self {
            tickets: VecDeque::new(),
            bytes: 0,
            announced: 0,
            engines: vec![Engine::default(); engines],
            closed: false,
            usage: Usage::default(),
        }
    }

    /// The time since the start of the longest current run.
    pub(crate) fn running(&self) -> Option<Duration> {
        let since = self.engines.iter().filter_map(|e| e.running_since);
        since.min().map(|since| since.elapsed())
    }

    /// The number of waiting requests, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.tickets.len(), self.bytes)
    }

    /// Whether a request of this size may wait. Into an empty queue a request of any size may.
    pub(crate) fn has_room(&self, load: &Load, capacity: usize) -> bool {
        self.tickets.is_empty() || self.bytes.saturating_add(load.bytes) <= capacity
    }

    pub(crate) fn push(&mut self, ticket: Ticket) {
        self.bytes += ticket.load.bytes;
        self.tickets.push_back(ticket);
    }

    /// Removes the request of this answer, if it is waiting.
    pub(crate) fn cancel(&mut self, answer: &Answer) -> Option<Ticket> {
        let index = self.tickets.iter().position(|t| t.promise.is_for(answer))?;
        let ticket = self.tickets.remove(index)?;
        self.bytes -= ticket.load.bytes;
        Some(ticket)
    }

    /// Removes all requests.
    pub(crate) fn abandon(&mut self) -> VecDeque<Ticket> {
        self.bytes = 0;
        std::mem::take(&mut self.tickets)
    }

    /// While an engine is busy requests gather until they fill a batch, so that kin meet there. An idle engine waits for
    /// nothing but announced requests.
    pub(crate) fn turn(&self, config: &BatchConfig, engine: usize) -> Turn {
        let Some(first) = self.tickets.front() else {
            return match self.closed {
                true => Turn::End,
                false => Turn::Wait(None),
            };
        };
        let is_full = self.tickets.len() >= config.max_batch_size;
        if is_full || self.closed {
            return Turn::Take;
        }
        if self.engines[engine].in_progress > 0 {
            return Turn::Wait(None);
        }
        let left = config.max_delay.saturating_sub(first.since.elapsed());
        match self.announced == 0 || left.is_zero() {
            true => Turn::Take,
            false => Turn::Wait(Some(left)),
        }
    }

    /// Removes the next batch: the oldest request and its kin, then the next oldest and its, until the batch is full or would
    /// take too long. Kin cost little, so they stay together.
    pub(crate) fn take(&mut self, config: &BatchConfig, engine: usize, pace: &Pace) -> Vec<Ticket> {
        let mut batch = Batch {
            tickets: Vec::new(),
            seconds: config.max_batch_time.as_secs_f64(),
            places: config.max_batch_size,
        };
        while let Some(first) = self.tickets.pop_front() {
            let seconds = pace.alone(&first.load);
            if batch.is_full() || batch.is_late(seconds) {
                self.tickets.push_front(first);
                break;
            }
            batch.push(first, seconds);
            self.take_kin(&mut batch, pace);
        }
        self.bytes -= batch.tickets.iter().map(|t| t.load.bytes).sum::<usize>();
        self.engines[engine].in_progress += 1;
        batch.tickets
    }

    /// Moves the kin of the batch's last request.
    fn take_kin(&mut self, batch: &mut Batch, pace: &Pace) {
        let kin = batch.tickets.last().map(|ticket| ticket.load.kin);
        let is_kin = |ticket: &Ticket| Some(ticket.load.kin) == kin;
        if !self.tickets.iter().any(is_kin) {
            return;
        }
        for ticket in std::mem::take(&mut self.tickets) {
            if is_kin(&ticket) && !batch.is_full() {
                let seconds = pace.with_kin(&ticket.load);
                batch.push(ticket, seconds);
            } else {
                self.tickets.push_back(ticket);
            }
        }
    }
}

/// A batch that is being filled.
struct Batch {
    tickets: Vec<Ticket>,
    /// Time that is left.
    seconds: f64,
    /// Requests that still fit.
    places: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.places == 0
    }

    /// Whether a request that takes these seconds does not fit. The first one always does.
    fn is_late(&self, seconds: f64) -> bool {
        seconds > self.seconds && !self.tickets.is_empty()
    }

    fn push(&mut self, ticket: Ticket, seconds: f64) {
        self.places -= 1;
        self.seconds -= seconds;
        self.tickets.push(ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::answer::Cancel;

    struct Nobody;

    impl Cancel for Nobody {
        fn cancel(&self, _: &Answer) {}
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A request of 600 tokens, 100 of them its response; the kin by its prompt.
    fn ticket(kin: u64, name: &str) -> Ticket {
        let (promise, _answer) = Promise::new(Arc::new(Nobody));
        Ticket {
            request: Request::new(name),
            promise,
            load: Load::fake(kin, 500, 100),
            since: Instant::now(),
        }
    }

    fn state(tickets: &[(u64, &str)]) -> State {
        let mut state = State::new(2);
        for (kin, name) in tickets {
            state.push(ticket(*kin, name));
        }
        state
    }

    /// A second for 100 tokens.
    fn pace() -> Pace {
        let mut pace = Pace::default();
        pace.add(&Usage {
            tokens: 100,
            engine: SECOND,
            ..Usage::default()
        });
        pace
    }

    fn taken(state: &mut State, config: &BatchConfig, pace: &Pace) -> String {
        let batch = state.take(config, 0, pace);
        let names = batch.iter().map(|ticket| ticket.request.prompt.to_string());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn kin_are_taken_with_the_oldest_and_others_in_order() {
        let mut state = state(&[(1, "a"), (2, "b"), (1, "c"), (3, "d"), (2, "e"), (1, "f")]);
        let config = BatchConfig::default().max_batch_size(5);
        assert_eq!(taken(&mut state, &config, &Pace::default()), "a c f b e");
        assert_eq!(state.waiting(), (1, ticket(3, "d").load.bytes));
        assert_eq!(taken(&mut state, &config, &Pace::default()), "d");
    }

    #[test]
    fn a_batch_ends_before_it_takes_too_long() {
        // Six seconds each, one for each of its kin.
        let tickets = [(1, "a"), (1, "b"), (2, "c"), (1, "d"), (3, "e")];
        let config = |seconds| BatchConfig::default().max_batch_time(seconds * SECOND);
        let first = |seconds| taken(&mut state(&tickets), &config(seconds), &pace());
        assert_eq!(
            first(1),
            "a b d",
            "the first request and its kin always fit"
        );
        assert_eq!(first(13), "a b d");
        assert_eq!(first(14), "a b d c");
        assert_eq!(first(99), "a b d c e");
    }

    #[test]
    fn an_idle_engine_waits_for_announced_requests_only() {
        let config = BatchConfig::default()
            .max_delay(3600 * SECOND)
            .max_batch_size(2);
        let mut state = state(&[]);
        assert!(matches!(state.turn(&config, 0), Turn::Wait(None)));
        state.push(ticket(1, "a"));
        assert!(matches!(state.turn(&config, 0), Turn::Take));
        state.announced = 1;
        assert!(matches!(state.turn(&config, 0), Turn::Wait(Some(_))));
        let hasty = config.clone().max_delay(Duration::ZERO);
        assert!(matches!(state.turn(&hasty, 0), Turn::Take));
        (state.announced, state.engines[0].in_progress) = (0, 1);
        assert!(matches!(state.turn(&config, 0), Turn::Wait(None)));
        assert!(
            matches!(state.turn(&config, 1), Turn::Take),
            "another engine is idle"
        );
        state.push(ticket(2, "b"));
        assert!(matches!(state.turn(&config, 0), Turn::Take), "a full batch");
        state.abandon();
        state.closed = true;
        assert!(matches!(state.turn(&config, 0), Turn::End));
    }

    #[test]
    fn the_queue_is_bounded_by_bytes() {
        let (mut state, load) = (State::new(1), ticket(1, "a").load);
        assert!(state.has_room(&load, 1), "an empty queue takes any request");
        state.push(ticket(1, "a"));
        assert!(!state.has_room(&load, 2 * load.bytes - 1));
        assert!(state.has_room(&load, 2 * load.bytes));
    }
}
