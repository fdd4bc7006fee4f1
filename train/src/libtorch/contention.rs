//! Waiting of LibTorch's threads, next to programs that need the same cores.
//!
//! LibTorch computes on GNU's OpenMP, whose threads spin for milliseconds before they sleep. Nothing is faster as long as
//! every thread has a core. When cores are contended, a thread that spins takes the core from the thread that it waits for:
//! training by two threads took twice as long and more next to other programs. OpenMP spins only a hundred times once more
//! threads are open than the process has cores (the manual of libgomp, under `GOMP_SPINCOUNT`). So as long as others
//! take the process's cores, another team of threads is kept open, which does nothing.

use std::fs;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, ops};

use crate::libtorch::native;

/// Time between two looks at the process's threads.
const INTERVAL: Duration = Duration::from_millis(100);
/// The share of its time that the process loses to others from which on cores are contended, and the one below which they
/// are free again. One busy loop on two cores takes a third.
const CONTENDED: f64 = 0.2;
const FREE: f64 = 0.1;
/// Variables by which users choose how OpenMP waits.
const VARIABLES: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Keeps LibTorch's threads from spinning while cores are contended, until it is dropped.
pub struct Watch {
    _thread: Background,
}

impl Watch {
    /// Starts to watch. `None` if there is nothing to do: one thread waits for nobody, `OMP_WAIT_POLICY` or
    /// `GOMP_SPINCOUNT` is set, or the system does not count how long threads wait for cores.
    pub fn start() -> Option<Self> {
        let is_chosen = VARIABLES.iter().any(|name| env::var_os(name).is_some());
        if tch::get_num_threads() < 2 || is_chosen {
            return None;
        }
        let start = Times::of_process()?;
        let thread = Background::spawn("contention", move |end| watch(start, &end));
        thread.map(|_thread| Self { _thread })
    }
}

fn watch(mut before: Times, end: &Receiver<()>) {
    let (mut team, mut start) = (None, Instant::now());
    while end.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(now) = Times::of_process() else {
            return;
        };
        let lost = (now - before).lost_share(start.elapsed() * cores() as u32);
        (before, start) = (now, Instant::now());
        match &team {
            None if lost > CONTENDED => team = idle_team(),
            Some(_) if lost < FREE => team = None,
            _ => {}
        }
    }
}

/// The cores that the process may use, by affinity and quota.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Threads of OpenMP that do nothing, more than the process has cores.
fn idle_team() -> Option<Background> {
    Background::spawn("idle-team", |end| {
        native::open_team(cores() as u32 + 1);
        // The team lives as long as the thread that opened it.
        let _ = end.recv();
    })
}

/// A thread that ends when it is dropped.
struct Background {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// `None` if the system has no thread left.
    fn spawn(name: &str, body: impl FnOnce(Receiver<()>) + Send + 'static) -> Option<Self> {
        let (end, ended) = channel();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || body(ended)).ok()?;
        Some(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Nanoseconds that the threads of the process have run, and waited for a core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    running: u64,
    waiting: u64,
}

impl Times {
    /// `None` if the system does not count them.
    fn of_process() -> Option<Self> {
        let mut sum = Self::default();
        for thread in fs::read_dir("/proc/self/task").ok()? {
            // A thread that has just ended has no file.
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat"));
            let times = text.ok().and_then(|text| Self::parse(&text));
            let times = times.unwrap_or_default();
            sum.running += times.running;
            sum.waiting += times.waiting;
        }
        (sum.running > 0).then_some(sum)
    }

    /// Linux's `schedstat` of a thread.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(str::parse);
        let (running, waiting) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { running, waiting })
    }

    /// The share of its time that the process lost to other processes, if its cores could give `capacity`. Threads that wait
    /// while the others of the process take all cores have lost nothing.
    fn lost_share(self, capacity: Duration) -> f64 {
        let unused = (capacity.as_nanos() as u64).saturating_sub(self.running);
        let lost = self.waiting.min(unused);
        lost as f64 / (self.running + lost).max(1) as f64
    }
}

/// Threads that have ended take their times with them.
impl ops::Sub for Times {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            running: self.running.saturating_sub(before.running),
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_lost_as_long_as_others_take_it() {
        let times = |text| Times::parse(text).unwrap();
        let between = times("300 150 8\n") - times("60 70 3\n");
        assert_eq!(between, times("240 80 0"));
        let lost = |capacity| between.lost_share(Duration::from_nanos(capacity));
        // Waiting during which cores stood idle; as much of it as others took; none next to threads of the process.
        assert_eq!([lost(400), lost(300), lost(240)], [0.25, 0.2, 0.0]);
        assert_eq!(Times::default().lost_share(Duration::ZERO), 0.0);
        assert_eq!(times("1 1 1") - times("2 2 1"), Times::default());
        assert_eq!(Times::parse("none"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_team_stays_open_until_it_is_dropped() {
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let cores = thread::available_parallelism().unwrap().get();
        let before = threads();
        let team = idle_team();
        let start = std::time::Instant::now();
        let reaches = |reached: &dyn Fn(usize) -> bool| {
            while !reached(threads()) && start.elapsed().as_secs() < 20 {
                thread::sleep(Duration::from_millis(1));
            }
            reached(threads())
        };
        // The opener and its team, itself included.
        assert!(reaches(&|threads| threads > before + cores));
        drop(team);
        assert!(reaches(&|threads| threads <= before + cores));
    }
}
