//! A reward model as an HTTP service. Requests that arrive together are scored together:
//!
//! ```sh
//! cargo run --release -p seeward-runtime --example service -- bundles/mine 127.0.0.1:8080
//! curl localhost:8080/score --json '{"prompt": "what is this?", "images": ["'$(base64 -w0 photo.png)'"], "responses": ["A cat."]}'
//! ```
//!
//! The answer is `{"rewards": […], "truncated": […]}`, or `{"error": "…"}` with status 422 for a request that cannot be
//! scored, 503 when the queue is full, 500 when the engine fails.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seeward_runtime::{BatchConfig, Batcher, Error, Options, Prompt, Request, RewardModel};
use serde::{Deserialize, Serialize};

/// The maximum number of bytes of a request.
const BODY_LIMIT: usize = 32 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    prompt: Prompt,
    /// Files in base64.
    #[serde(default)]
    images: Vec<String>,
    responses: Vec<String>,
}

#[derive(Serialize)]
struct Verdict {
    rewards: Vec<f32>,
    truncated: Vec<bool>,
}

struct Refusal(StatusCode, String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, address] = &arguments[..] else {
        return Err("usage: service BUNDLE ADDRESS".into());
    };
    let model = RewardModel::load(bundle, Options::default())?;
    let batcher = Batcher::new(model, BatchConfig::default())?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    // Accepted requests are answered before the program ends.
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let server = axum::serve(listener, router(batcher)).with_graceful_shutdown(stop);
    Ok(server.await?)
}

/// The routes, with the batcher that they share.
pub(crate) fn router(batcher: Batcher) -> Router {
    Router::new()
        .route("/score", post(score))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(batcher)
}

/// When a client disconnects, this future is dropped, which cancels a request that is still waiting.
async fn score(
    State(batcher): State<Batcher>,
    Json(question): Json<Question>,
) -> Result<Json<Verdict>, Refusal> {
    let scores = batcher.submit(request(question)?)?.await?;
    Ok(Json(Verdict {
        rewards: scores.rewards,
        truncated: scores.truncated,
    }))
}

fn request(question: Question) -> Result<Request, Refusal> {
    let images = question.images.iter().map(|image| STANDARD.decode(image));
    let images: Result<Vec<_>, _> = images.collect();
    let refused = |e| Refusal(StatusCode::UNPROCESSABLE_ENTITY, format!("images: {e}"));
    let request = Request::new(question.prompt).images(images.map_err(refused)?);
    Ok(request.responses(question.responses))
}

/// The HTTP status of each error.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::QueueFull { .. } | Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Error::Batch(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = serde_json::json!({ "error": self.1 });
        (self.0, Json(error)).into_response()
    }
}
