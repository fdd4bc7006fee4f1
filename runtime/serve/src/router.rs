//! The surface: every route on one page, and what holds for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::answer::answer;
use crate::errors::Refusal;
use crate::state::Service;
use crate::status;
use crate::wire::{ChatCompletion, Classify, GetReward, RemoteReward, Rewards};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken from a client.
const LONGEST_ID: usize = 128;
/// Routes that need no key.
const OPEN: [&str; 3] = ["/live", "/ready", "/health"];

/// All routes.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/rewards", post(answer::<Rewards>))
        .route("/v1/chat/completions", post(answer::<ChatCompletion>))
        .route("/get_reward", post(answer::<GetReward>))
        .route("/remote_rm", post(answer::<RemoteReward>))
        .route("/classify", post(answer::<Classify>))
        .route("/v1/classify", post(answer::<Classify>))
        .route("/v1/models", get(status::models))
        .route("/info", get(status::info))
        .route("/live", get(status::live))
        .route("/ready", get(status::ready))
        .route("/health", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(status::openapi))
        .route("/", get(status::page))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(service.clone(), observe))
        .with_state(service)
}

async fn not_found(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(100).collect();
    Refusal::new(StatusCode::NOT_FOUND, format!("no such route: {path}"))
}

async fn wrong_method(request: Request) -> Refusal {
    let problem = format!("{} is not for this route", request.method());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, problem)
}

/// Checks the key, and counts and logs every answer.
async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let (start, id) = (Instant::now(), request_id(&request));
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or("other", |path| path.as_str()).to_owned();
    let mut response = match OPEN.contains(&&*route) || service.keys.admit(request.headers()) {
        true => next.run(request).await,
        false => unauthorized(),
    };
    let (status, time) = (response.status().as_u16(), start.elapsed());
    service.metrics.answered(&route, status, time);
    let ms = time.as_micros() as f64 / 1e3;
    tracing::info!(%method, route, status, ms, id = id.to_str().unwrap_or(""), "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn unauthorized() -> Response {
    let problem = "expected an API key: Authorization: Bearer KEY";
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, problem);
    let mut response = refusal.into_response();
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The client's id of the request, or a number.
fn request_id(request: &Request) -> HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let given = request.headers().get(REQUEST_ID);
    let given = given.filter(|id| id.len() <= LONGEST_ID && id.to_str().is_ok());
    let next = || HeaderValue::from(COUNT.fetch_add(1, Ordering::Relaxed));
    given.cloned().unwrap_or_else(next)
}
