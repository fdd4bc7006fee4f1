//! What is asked and what is answered.

use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use seeward_models::image::Rgb;

use crate::Result;
use crate::prepared::Asked;

/// A prompt, its images and the responses to score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// What the user asks, without the conversation template. A single image comes before it; several take the places of
    /// its `<image>` tags, or all come first if it has none.
    pub prompt: String,
    /// The images, in order; without any the model reads text alone.
    pub images: Vec<Image>,
    /// At least one.
    pub responses: Vec<String>,
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Image {
    /// A PNG, JPEG, WebP, GIF or BMP file.
    Path(PathBuf),
    /// The content of such a file.
    Bytes(Vec<u8>),
    /// Pixels.
    Rgb(Rgb),
}

/// The rewards of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One for each response, in order.
    pub rewards: Vec<f32>,
    /// For each response, whether the model's maximal length cut it.
    pub truncated: Vec<bool>,
}

/// The answer to one call.
#[derive(Debug)]
pub struct Scored {
    /// One for each request, in order. A request's failure leaves the others alone.
    pub results: Vec<Result<Scores>>,
    /// What the call took.
    pub usage: Usage,
}

/// What scoring took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Responses scored.
    pub responses: u64,
    /// Of them, those that the maximal length cut.
    pub truncated: u64,
    /// Tokens that went through the reward graph, padding not counted.
    pub tokens: u64,
    /// Tokens of the same conversations, each on its own.
    pub tokens_without_sharing: u64,
    /// Images that went through the vision graph.
    pub images_encoded: u64,
    /// Their tiles.
    pub tiles: u64,
    /// Time inside the engine's runs.
    pub engine: Duration,
}

impl Usage {
    pub(crate) fn count(&mut self, asked: &Asked) {
        self.responses += asked.truncated.len() as u64;
        self.truncated += asked.truncated.iter().filter(|cut| **cut).count() as u64;
        self.tokens_without_sharing += asked.tokens as u64;
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.responses += other.responses;
        self.truncated += other.truncated;
        self.tokens += other.tokens;
        self.tokens_without_sharing += other.tokens_without_sharing;
        self.images_encoded += other.images_encoded;
        self.tiles += other.tiles;
        self.engine += other.engine;
    }
}
