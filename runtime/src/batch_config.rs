//! The limits of batches and of their queue.

use std::time::Duration;

use crate::{Error, Result};

/// How requests of several callers are batched.
///
/// ```
/// use seeward_runtime::BatchConfig;
///
/// let config = BatchConfig::default().max_batch_size(8).queue_bytes(64 << 20);
/// assert_eq!(config.max_batch_size, 8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchConfig {
    /// The maximum number of requests of a batch.
    pub max_batch_size: usize,
    /// The estimated time of a batch, by the speed of the model's earlier runs: a request of another prompt that would exceed
    /// it waits for the next batch. A single request, and those of equal prompt and images, may take longer.
    pub max_batch_time: Duration,
    /// The maximum time that a request waits for [announced](crate::Batcher::announce) ones while the engine is idle. Without
    /// announcements it does not wait. While the engine is busy requests gather anyway.
    pub max_delay: Duration,
    /// The maximum number of bytes of the waiting requests, their images included; those of the two batches in progress are
    /// not counted. A larger request may wait alone.
    pub queue_bytes: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_batch_size: 32,
            max_batch_time: Duration::from_secs(2),
            max_delay: Duration::from_millis(5),
            queue_bytes: 1 << 30,
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

    /// Sets [`max_batch_time`](Self#structfield.max_batch_time).
    #[must_use]
    pub fn max_batch_time(mut self, time: Duration) -> Self {
        self.max_batch_time = time;
        self
    }

    /// Sets [`max_delay`](Self#structfield.max_delay).
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets [`queue_bytes`](Self#structfield.queue_bytes).
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let values = [
            ("max_batch_size", self.max_batch_size),
            ("queue_bytes", self.queue_bytes),
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
