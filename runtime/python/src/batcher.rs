//! `Batcher` of `seeward._native`: requests of many threads and tasks scored together, with Python's futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use seeward_runtime::{Answer, BatchConfig};

use crate::batch::{Scored, fields};
use crate::errors::raise;
use crate::local::Local;
use crate::model::RewardModel;
use crate::requests::{request, texts};

/// A queue with threads that score what is in it.
#[pyclass(frozen, subclass, module = "seeward._native")]
pub(crate) struct Batcher(Local<seeward_runtime::Batcher>);

#[pymethods]
impl Batcher {
    #[new]
    fn new(
        model: &RewardModel,
        max_batch_size: usize,
        max_batch_time: f64,
        max_delay: f64,
        queue_bytes: usize,
    ) -> PyResult<Self> {
        let config = BatchConfig::default()
            .max_batch_size(max_batch_size)
            .max_batch_time(seconds("max_batch_time", max_batch_time)?)
            .max_delay(seconds("max_delay", max_delay)?)
            .queue_bytes(queue_bytes);
        let batcher = seeward_runtime::Batcher::new(model.model()?.clone(), config);
        Ok(Self(Local::new(batcher.map_err(|error| raise(&error))?)))
    }

    /// Gives the request to the queue and its scores' fields to `resolve(fields, error)`, on another thread.
    #[pyo3(signature = (resolve, prompt, responses, images = None))]
    fn submit_to(
        &self,
        py: Python<'_>,
        resolve: Py<PyAny>,
        prompt: &Bound<'_, PyAny>,
        responses: &Bound<'_, PyAny>,
        images: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Pending> {
        let request = request(prompt, texts(responses)?, images)?;
        let batcher = self.0.get()?;
        let answer = py.detach(|| batcher.submit(request));
        let answer = answer.map_err(|error| raise(&error))?;
        let waiting = Arc::new(Waiting {
            answer: Mutex::new(Some(answer)),
            resolve,
        });
        py.detach(|| waiting.clone().poll());
        Ok(Pending(waiting))
    }

    /// The fields of the scores of a request, which waits until the queue has room.
    #[pyo3(signature = (prompt, responses, images = None))]
    fn score_waiting(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        responses: &Bound<'_, PyAny>,
        images: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Scored> {
        let request = request(prompt, texts(responses)?, images)?;
        let batcher = self.0.get()?;
        let scores = py.detach(|| batcher.score(request));
        scores.map(fields).map_err(|error| raise(&error))
    }

    /// Accepts no more requests, and returns when every accepted one has been answered.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let batcher = self.0.get()?;
        py.detach(|| batcher.close());
        Ok(())
    }
}

fn seconds(name: &str, seconds: f64) -> PyResult<Duration> {
    let wrong = |_| PyValueError::new_err(format!("{name}: expected seconds, got {seconds}"));
    Duration::try_from_secs_f64(seconds).map_err(wrong)
}

/// A request in the queue.
#[pyclass(frozen, module = "seeward._native")]
pub(crate) struct Pending(Arc<Waiting>);

#[pymethods]
impl Pending {
    /// Removes the request, if it is still in the queue.
    fn cancel(&self, py: Python<'_>) {
        let answer = self.0.answer().take();
        py.detach(|| drop(answer));
    }
}

/// An answer on its way to Python.
struct Waiting {
    /// None when it has arrived or nobody waits for it.
    answer: Mutex<Option<Answer>>,
    resolve: Py<PyAny>,
}

impl Waiting {
    fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut slot = self.answer();
        let Some(answer) = slot.as_mut() else { return };
        let polled = Pin::new(answer).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(result) = polled else { return };
        let answer = slot.take();
        // Its end takes the queue's lock.
        drop(slot);
        drop(answer);
        let (scored, error) = match result {
            Ok(scores) => (Some(fields(scores)), None),
            Err(error) => (None, Some(raise(&error))),
        };
        // Without an interpreter nobody waits any more.
        Python::try_attach(|py| {
            let error = error.map(|error| error.into_value(py));
            if let Err(error) = self.resolve.call1(py, (scored, error)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.poll();
    }
}
