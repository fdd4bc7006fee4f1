//! Results: rewards, and the work that they took.

use std::ops::AddAssign;
use std::time::Duration;

use crate::Result;

/// The rewards of one request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scores {
    /// One for each response, in order.
    pub rewards: Vec<f32>,
    /// For each response, whether the model's maximum length cut it.
    pub truncated: Vec<bool>,
    /// Tokens of its conversations, each counted in full.
    pub tokens: usize,
    /// Tiles of its images.
    pub tiles: usize,
    /// Where the time went.
    pub times: Times,
}

/// The time that the call, or the batch, of a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// Waiting in the queue of a [`Batcher`](crate::Batcher).
    pub queue: Duration,
    /// Reading, decoding, tokenising and packing.
    pub prepare: Duration,
    /// Inside the engine, for images.
    pub vision: Duration,
    /// Inside the engine, for rewards.
    pub reward: Duration,
}

/// The result of one call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scored {
    /// One for each request, in order. A request's failure does not affect the others.
    pub results: Vec<Result<Scores>>,
    /// The work that the call took.
    pub usage: Usage,
}

/// The work that scoring took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Responses scored.
    pub responses: u64,
    /// Those of them that the maximum length cut.
    pub truncated: u64,
    /// Tokens that went through the reward graph, padding not counted.
    pub tokens: u64,
    /// Tokens that separate conversations would have taken.
    pub tokens_without_sharing: u64,
    /// Images that went through the vision graph.
    pub images_encoded: u64,
    /// Their tiles; a whole image counts as one.
    pub tiles: u64,
    /// Distinct images of a call whose embeddings were in the cache.
    pub images_cached: u64,
    /// Their tiles.
    pub tiles_cached: u64,
    /// Time inside the engine's runs.
    pub engine: Duration,
    /// The part of it that images took.
    pub vision: Duration,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.responses += other.responses;
        self.truncated += other.truncated;
        self.tokens += other.tokens;
        self.tokens_without_sharing += other.tokens_without_sharing;
        self.images_encoded += other.images_encoded;
        self.tiles += other.tiles;
        self.images_cached += other.images_cached;
        self.tiles_cached += other.tiles_cached;
        self.engine += other.engine;
        self.vision += other.vision;
    }
}
