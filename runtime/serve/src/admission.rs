//! Reading bodies: within the budget of bytes for all of them, and not for ever.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use seeward_runtime::Announcement;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{timeout, timeout_at};

use crate::budget::permits;
use crate::errors::Refusal;
use crate::state::{Loaded, Service};

/// Bytes a second that a body must come at, on the whole.
const LEAST_RATE: usize = 64 << 10;

/// A request that may be scored.
pub(crate) struct Admitted {
    pub(crate) question: Question,
    /// The time that reading took, without the wait for the budget.
    pub(crate) read: Duration,
    /// The end of the request's time.
    pub(crate) deadline: tokio::time::Instant,
    /// Held until the request has been answered.
    pub(crate) budget: OwnedSemaphorePermit,
}

/// What it asks.
pub(crate) struct Question {
    pub(crate) body: Bytes,
    /// The query of its address.
    pub(crate) query: String,
    /// Held until the request has been submitted.
    pub(crate) announcement: Announcement,
}

/// Waits until the body fits into the budget, and reads it.
///
/// # Errors
/// 408, 413, 415; 503 if the budget is not free in time.
pub(crate) async fn admit(
    service: &Service,
    model: &Loaded,
    request: Request,
) -> Result<Admitted, Refusal> {
    let settings = &service.settings;
    let deadline = tokio::time::Instant::now() + settings.request_timeout;
    check_type(request.headers())?;
    let length = length(request.headers(), settings.max_body)?;
    let budget = service.budget.clone().acquire_many_owned(permits(length));
    let late = || Refusal::unavailable("too many requests are waiting", 30);
    let budget = timeout_at(deadline, budget).await.map_err(|_| late())?;
    let budget = budget.map_err(Refusal::internal)?;
    let (announcement, start) = (model.batcher.announce(), Instant::now());
    let query = request.uri().query().unwrap_or("").to_owned();
    let time = settings.body_timeout + Duration::from_secs((length / LEAST_RATE) as u64);
    let body = read(request.into_body(), settings.max_body, time).await?;
    Ok(Admitted {
        read: start.elapsed(),
        question: Question {
            body,
            query,
            announcement,
        },
        deadline,
        budget,
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = kind.to_str().unwrap_or("").split(';').next().unwrap_or("");
    let kind = kind.trim().to_ascii_lowercase();
    match kind == "application/json" || kind.ends_with("+json") {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("expected content-type: application/json, got {kind}"),
        )),
    }
}

/// The length of the body; without a header, the most that it may be.
fn length(headers: &HeaderMap, limit: usize) -> Result<usize, Refusal> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(length) if length > limit => Err(too_large(limit)),
        Some(length) => Ok(length),
        None => Ok(limit),
    }
}

async fn read(body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    let read = timeout(time, Limited::new(body, limit).collect()).await;
    let read =
        read.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"))?;
    match read {
        Ok(read) => Ok(read.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(error) => Err(Refusal::bad_request(format!(
            "the body ended early: {error}"
        ))),
    }
}

fn too_large(limit: usize) -> Refusal {
    let message = format!("the body: expected at most {limit} bytes (--max-body)");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}
