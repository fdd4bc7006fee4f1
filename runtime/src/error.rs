//! Errors of one request (the others are scored), of loading, and of the engine.

use std::sync::Arc;

use seeward_models::kinds::{InputMode, Precision};

use crate::device::{Device, ParseDeviceError};

/// A request that cannot be scored, or a model that cannot be loaded or run. Errors of `seeward_models` inside keep their
/// type, so that callers can match the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request's image is missing, broken or too large.
    #[error("image {image}: {error}")]
    #[non_exhaustive]
    Image {
        /// Its path, or its place among the request's images, counted from 1.
        image: String,
        /// The cause; requests with the same image share it.
        error: Arc<seeward_models::Error>,
    },
    /// A request's prompt, images and response make no conversation that the model can read.
    #[error("{0}")]
    Prompt(seeward_models::Error),
    /// A request without responses.
    #[error("responses: expected at least one")]
    NoResponses,
    /// A request with images, and a bundle without a vision graph.
    #[error("this bundle has no vision graph, so it cannot score the request's {images} images")]
    #[non_exhaustive]
    NoVision {
        /// The request's number of images.
        images: usize,
    },
    /// A response's reward is NaN or infinite: a value inside the model exceeded the range of its precision.
    #[error(
        "response {response}: the reward is {reward}; in {precision}, a value exceeds the range"
    )]
    #[non_exhaustive]
    NotFinite {
        /// The response's place in the request, counted from 1.
        response: usize,
        /// The reward.
        reward: f32,
        /// The bundle's precision.
        precision: Precision,
    },
    /// A bundle without probes cannot be compared with its training.
    #[error(
        "this bundle has no probes: its checkpoint has none, or --max-length excluded them at export"
    )]
    NoProbes,
    /// A probe of the bundle cannot be scored.
    #[error("probe {probe}: {error}")]
    #[non_exhaustive]
    Probe {
        /// Its place in the bundle, counted from 0.
        probe: usize,
        /// Why not.
        error: Box<Error>,
    },
    /// The bundle is missing, broken or has changed.
    #[error("{0}")]
    Bundle(seeward_models::Error),
    /// The bundle reads other inputs than the options ask for.
    #[error("the bundle's model is {bundle}, which excludes {asked}", bundle = name(*bundle), asked = name(*asked))]
    #[non_exhaustive]
    InputMode {
        /// The bundle's mode.
        bundle: InputMode,
        /// The options' mode.
        asked: InputMode,
    },
    /// The device is missing, or cannot run this bundle.
    #[error("device {device}: {problem}")]
    #[non_exhaustive]
    Device {
        /// The device asked for.
        device: Device,
        /// Why it cannot be used.
        problem: String,
    },
    /// ONNX Runtime's library cannot be loaded.
    #[error("ONNX Runtime: {0}")]
    Library(String),
    /// ONNX Runtime refuses a graph or a run of it. Other requests would fail too.
    #[error("{graph}: {problem}")]
    #[non_exhaustive]
    Engine {
        /// The graph's file name.
        graph: &'static str,
        /// ONNX Runtime's message.
        problem: String,
    },
    /// The batcher's queue is full. Retry later.
    #[error("the queue is full: it holds {capacity} bytes of requests at most")]
    #[non_exhaustive]
    QueueFull {
        /// The queue's capacity in bytes.
        capacity: usize,
    },
    /// The batcher accepts no more requests, or ended before it reached this one.
    #[error("the batcher is closed")]
    Closed,
    /// The engine failed on this request's batch.
    #[error("{0}")]
    Batch(Arc<Error>),
    /// A bug in this crate or one below it; its place was printed to stderr.
    #[error("scoring panicked")]
    Panicked,
    /// An option outside its range.
    #[error("{0}")]
    Options(String),
}

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<ParseDeviceError> for Error {
    fn from(error: ParseDeviceError) -> Self {
        Self::Options(error.to_string())
    }
}

fn name(mode: InputMode) -> &'static str {
    match mode {
        InputMode::Full => "full",
        InputMode::TextOnly => "text-only",
        InputMode::ImageOnly => "image-only",
    }
}
