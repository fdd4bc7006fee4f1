//! From a body to scores: parsing and decoding on separate threads, then the runtime's batcher.

use std::sync::Arc;

use axum::http::StatusCode;
use seeward_models::sample::ScoreRow;
use seeward_runtime::{Answer, Error, Request, Scores};
use tokio::time::{Instant, timeout_at};

use crate::admission::Question;
use crate::errors::Refusal;
use crate::state::Service;
use crate::wire::{Context, Outcome, Wire};

/// The rows of a body in the batcher.
pub(crate) struct Submitted<W> {
    pub(crate) wire: W,
    answers: Vec<Result<Answer, Refusal>>,
}

/// Parses the body, fetches its images and submits its rows.
///
/// # Errors
/// A body that cannot be read.
pub(crate) async fn submit<W: Wire>(
    service: &Arc<Service>,
    question: Question,
) -> Result<Submitted<W>, Refusal> {
    let _permit = service.workers.acquire().await.map_err(Refusal::internal)?;
    let service = service.clone();
    let work = move || {
        let context = Context {
            query: question.query,
            ..service.settings.context.clone()
        };
        let (wire, rows) = W::read(&question.body, &context)?;
        drop(question.body);
        let answers = rows.into_iter().map(|row| enqueue(&service, &row?));
        let answers = answers.collect();
        drop(question.announcement);
        Ok(Submitted { wire, answers })
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::internal("reading the request panicked"))?
}

fn enqueue(service: &Service, row: &ScoreRow) -> Result<Answer, Refusal> {
    let images = service.images.fetch(&row.images)?;
    let request = Request::new(&row.prompt).images(images);
    let request = request.responses(&row.responses);
    Ok(service.model()?.batcher.submit(request)?)
}

impl<W> Submitted<W> {
    /// Waits for the scores of all rows.
    pub(crate) async fn outcomes(self, service: &Service, deadline: Instant) -> (W, Vec<Outcome>) {
        let mut outcomes = Vec::with_capacity(self.answers.len());
        for answer in self.answers {
            outcomes.push(match answer {
                Ok(answer) => outcome(service, answer, deadline).await,
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
