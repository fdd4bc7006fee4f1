//! The handler of every route that scores.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use seeward_runtime::Times;

use crate::admission;
use crate::errors::Refusal;
use crate::metrics::Metrics;
use crate::scoring;
use crate::state::Service;
use crate::wire::{Outcome, Wire};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Scores the rows of a body. When its client leaves, this future is dropped, which cancels rows that still wait.
///
/// # Errors
/// The request's own.
pub(crate) async fn answer<W: Wire>(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut attendance = Attendance(Some(&service.metrics));
    let result = score::<W>(&service, request).await;
    attendance.0 = None;
    result
}

async fn score<W: Wire>(service: &Arc<Service>, request: Request) -> Result<Response, Refusal> {
    let model = service.model()?;
    let admitted = admission::admit(service, model, request).await?;
    let submitted = scoring::submit::<W>(service, admitted.question, admitted.deadline).await?;
    let (wire, outcomes) = submitted.outcomes(service, admitted.deadline).await;
    let times = slowest(&outcomes);
    if let Some(times) = &times {
        service.metrics.scored(admitted.read, times);
    }
    let mut response = wire.reply(outcomes, &model.name)?;
    if let Some(times) = &times {
        let headers = response.headers_mut();
        headers.insert(SERVER_TIMING, timing(admitted.read, times));
    }
    drop(admitted.budget);
    Ok(response)
}

/// The times of the row that took longest.
fn slowest(outcomes: &[Outcome]) -> Option<Times> {
    let times = outcomes.iter().flatten().map(|scores| scores.times);
    times.max_by_key(|times| times.queue + times.prepare + times.vision + times.reward)
}

fn timing(read: Duration, times: &Times) -> HeaderValue {
    let parts = [
        ("read", read),
        ("queue", times.queue),
        ("prepare", times.prepare),
        ("engine", times.vision + times.reward),
    ];
    let parts = parts.map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
    // Letters, digits and signs only.
    HeaderValue::try_from(parts.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// Counts a request that is dropped before its answer.
struct Attendance<'a>(Option<&'a Metrics>);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.cancelled();
        }
    }
}
