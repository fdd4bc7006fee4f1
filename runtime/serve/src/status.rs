//! The routes that say how the service is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::errors::Refusal;
use crate::state::Service;

/// The description of the routes, without the version.
const OPENAPI: &str = include_str!("openapi.json");
const PROMETHEUS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the process lives: never waits for the model.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Whether requests should be sent.
///
/// # Errors
/// 503 with the reason why not.
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Result<Json<Value>, Refusal> {
    service.check_ready()?;
    Ok(Json(json!({ "status": "ready" })))
}

/// The served model, as OpenAI lists models.
///
/// # Errors
/// 503 while it is being loaded.
pub(crate) async fn models(State(service): State<Arc<Service>>) -> Result<Json<Value>, Refusal> {
    let model = service.model()?;
    let entry = json!({"id": model.name, "object": "model", "created": 0, "owned_by": "seeward"});
    Ok(Json(json!({"object": "list", "data": [entry]})))
}

/// The model, its device and its limits.
///
/// # Errors
/// 503 while it is being loaded.
pub(crate) async fn info(State(service): State<Arc<Service>>) -> Result<Json<Value>, Refusal> {
    let loaded = service.model()?;
    // The models differ by their device alone.
    let model = &loaded.models[0];
    let manifest = model.bundle().manifest();
    let devices: Vec<String> = loaded
        .models
        .iter()
        .map(|m| m.device().to_string())
        .collect();
    let fallback: Vec<String> = model
        .fallback_nodes()
        .map(|nodes| nodes.to_string())
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": loaded.name,
        "bundle": model.bundle().hash(),
        "device": devices.join(","),
        "provider": model.device().provider(),
        "fallback_nodes": fallback,
        "precision": manifest.precision.to_string(),
        "template": manifest.prompt.template.to_string(),
        "max_length": manifest.prompt.max_length,
        "input_mode": model.input_mode(),
        "has_vision": model.bundle().vision_graph().is_some(),
        "probes": loaded.probes,
        "max_body": service.settings.max_body,
        "queue_bytes": service.settings.queue_bytes,
        "request_timeout": service.settings.request_timeout.as_secs_f64(),
    })))
}

/// Prometheus' text.
///
/// # Errors
/// The page cannot be written.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    let page = service.metrics.page(&service.snapshot());
    let page = page.map_err(Refusal::internal)?;
    Ok(([(CONTENT_TYPE, PROMETHEUS)], page).into_response())
}

/// The routes and formats, as OpenAPI describes them.
pub(crate) async fn openapi() -> Response {
    let description = OPENAPI.replace("VERSION", env!("CARGO_PKG_VERSION"));
    ([(CONTENT_TYPE, "application/json")], description).into_response()
}

/// A page with links.
pub(crate) async fn page() -> Html<&'static str> {
    Html(
        "<!doctype html><meta charset=utf-8><title>seeward-serve</title><h1>seeward-serve</h1>\
         <p>A reward model over HTTP. <a href=info>The model</a>, <a href=openapi.json>routes and formats</a>, \
         <a href=ready>readiness</a>, <a href=metrics>metrics</a>.\n",
    )
}
