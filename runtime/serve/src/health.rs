//! Liveness and readiness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What the service can do.
#[derive(Debug, Default)]
pub(crate) struct Health {
    draining: AtomicBool,
    /// The last run's error, if it failed.
    failure: Mutex<Option<String>>,
}

impl Health {
    /// The service is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The engine failed. Its next success takes it back.
    pub(crate) fn fail(&self, problem: impl ToString) {
        *self.lock() = Some(problem.to_string());
    }

    /// The engine scored a request.
    pub(crate) fn succeed(&self) {
        self.lock().take();
    }

    /// The engine's error, if its last run failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_takes_a_failure_back() {
        let health = Health::default();
        health.fail("out of memory");
        assert_eq!(health.failure().as_deref(), Some("out of memory"));
        health.succeed();
        assert!(health.failure().is_none() && !health.is_draining());
        health.drain();
        assert!(health.is_draining());
    }
}
