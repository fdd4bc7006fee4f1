//! From a body to scores: parsing and decoding on separate threads, then the runtime's batcher.

use std::sync::Arc;

use axum::http::StatusCode;
use seeward_models::sample::ScoreRow;
use seeward_runtime::{Answer, Error, Request, Scores};
use tokio::time::{Instant, timeout_at};

use crate::addresses;
use crate::admission::Question;
use crate::errors::Refusal;
use crate::images::Place;
use crate::state::Service;
use crate::wire::{Context, Outcome, Wire};

/// The rows of a body in the batcher.
pub(crate) struct Submitted<W> {
    pub(crate) wire: W,
    answers: Vec<Result<Waiting, Refusal>>,
    /// Of fetched images.
    _places: Vec<Place>,
}

/// A row in the batcher, with the places of its images.
struct Waiting {
    answer: Answer,
    _places: Vec<Place>,
}

/// Parses the body, fetches its images and submits its rows.
///
/// # Errors
/// A body that cannot be read.
pub(crate) async fn submit<W: Wire>(
    service: &Arc<Service>,
    question: Question,
    deadline: Instant,
) -> Result<Submitted<W>, Refusal> {
    let Question {
        body,
        query,
        announcement,
    } = question;
    let read = move |service: &Service| {
        let context = Context {
            query,
            ..service.settings.context.clone()
        };
        W::read(&body, &context)
    };
    let (wire, rows) = on_worker(service, read).await??;
    let (rows, places) = addresses::resolve(service, rows, deadline).await;
    let enqueue_all = move |service: &Service| {
        let answers = rows.into_iter().map(|row| enqueue(service, &row?));
        let answers = answers.collect();
        drop(announcement);
        answers
    };
    let answers = on_worker(service, enqueue_all).await?;
    Ok(Submitted {
        wire,
        answers,
        _places: places,
    })
}

/// Runs what takes CPU time outside of the threads that serve sockets.
///
/// # Errors
/// A panic.
async fn on_worker<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce(&Service) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let _permit = service.workers.acquire().await.map_err(Refusal::internal)?;
    let service = service.clone();
    let done = tokio::task::spawn_blocking(move || work(&service)).await;
    done.map_err(|_| Refusal::internal("reading the request panicked"))
}

fn enqueue(service: &Service, row: &ScoreRow) -> Result<Waiting, Refusal> {
    let (images, places) = service.images.content_of(&row.images)?;
    let request = Request::new(&row.prompt).images(images);
    let request = request.responses(&row.responses);
    Ok(Waiting {
        answer: service.model()?.batcher.submit(request)?,
        _places: places,
    })
}

impl<W> Submitted<W> {
    /// Waits for the scores of all rows.
    pub(crate) async fn outcomes(self, service: &Service, deadline: Instant) -> (W, Vec<Outcome>) {
        let mut outcomes = Vec::with_capacity(self.answers.len());
        for answer in self.answers {
            outcomes.push(match answer {
                Ok(waiting) => outcome(service, waiting.answer, deadline).await,
                Err(refusal) => Err(refusal),
            });
        }
        (self.wire, outcomes)
    }
}

async fn outcome(service: &Service, answer: Answer, deadline: Instant) -> Outcome {
    let Ok(result) = timeout_at(deadline, answer).await else {
        let message = "not scored in time (--request-timeout)";
        return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, message));
    };
    note(service, &result);
    Ok(result?)
}

/// Lets readiness follow the engine.
fn note(service: &Service, result: &Result<Scores, Error>) {
    match result {
        Err(Error::Batch(error)) => {
            tracing::error!(%error, "the engine failed");
            service.health.fail(error);
        }
        Ok(_) => service.health.succeed(),
        Err(_) => {}
    }
}
