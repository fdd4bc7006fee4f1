//! What can go wrong: with one request (the others are scored), with loading, or with the engine.

use std::sync::Arc;

use seeward_models::kinds::{InputMode, Precision};

use crate::Device;

/// A request that cannot be scored, or a model that cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request's picture is missing, broken or too large.
    #[error("image {image}: {problem}")]
    Image {
        /// Its path, or its place among the request's images, counted from 1.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A request's prompt and response make no conversation that the model can read.
    #[error("{0}")]
    Prompt(seeward_models::Error),
    /// A request without responses.
    #[error("responses: expected at least one")]
    NoResponses,
    /// A request with images, and a bundle without a vision graph.
    #[error("this bundle has no vision graph, so it cannot score the request's {images} images")]
    NoVision {
        /// How many the request has.
        images: usize,
    },
    /// A response's reward is no number: somewhere on the way the model left its precision's range.
    #[error("response {response}: the reward is {reward}; in {precision}, the model leaves the range of its numbers", precision = format!("{precision:?}").to_lowercase())]
    NotFinite {
        /// The response's place in the request, counted from 1.
        response: usize,
        /// What came out.
        reward: f32,
        /// The bundle's precision.
        precision: Precision,
    },
    /// The bundle is missing, broken or has changed.
    #[error("{0}")]
    Bundle(seeward_models::Error),
    /// The bundle was made for other inputs than those asked for.
    #[error("the bundle's model is {bundle}, which excludes {asked}", bundle = name(*bundle), asked = name(*asked))]
    InputMode {
        /// What the bundle says.
        bundle: InputMode,
        /// What the options say.
        asked: InputMode,
    },
    /// The device is not there, or not one for this bundle.
    #[error("device {device}: {problem}")]
    Device {
        /// The device asked for.
        device: Device,
        /// Why it cannot be used.
        problem: String,
    },
    /// ONNX Runtime's library cannot be loaded.
    #[error("ONNX Runtime: {0}")]
    Library(String),
    /// ONNX Runtime refuses a graph or a run of it. Other requests would fare no better.
    #[error("{graph}: {problem}")]
    Engine {
        /// The graph's file name.
        graph: &'static str,
        /// What ONNX Runtime said.
        problem: String,
    },
    /// Too many requests wait. Later there may be room.
    #[error("{waiting} requests wait already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The batcher takes no more requests, or ended before it came to this one.
    #[error("the batcher is closed")]
    Closed,
    /// The engine failed on the batch that this request was in.
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

fn name(mode: InputMode) -> &'static str {
    match mode {
        InputMode::Full => "full",
        InputMode::TextOnly => "text-only",
        InputMode::ImageOnly => "image-only",
    }
}
