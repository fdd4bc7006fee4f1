//! A call's inputs of the engine: tiles, token layouts, and the request of every reward.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use seeward_models::bundle::{Bundle, Manifest};
use seeward_models::chat::Prompt;
use seeward_models::forest::{self, Batch, Cost, Document, Forest, Packing, Rates};
use seeward_models::prompt::Conversation;
use seeward_models::rope::RopeTables;

use crate::vision::{ImageRows, VisionBatch};
use crate::{Error, Options, Result, Scores, Times, Usage};

/// Requests in the form that the engine reads: images as tiles, conversations as packed token ids. Created by
/// [`RewardModel::prepare`](crate::RewardModel::prepare), which does not wait for the engine, and scored by
/// [`RewardModel::run`](crate::RewardModel::run).
///
/// Holds the pixels of the distinct images, 0.6 MB for a tile of 448 × 448, until they have been encoded.
pub struct Prepared {
    /// The hash of the bundle that it is for.
    pub(crate) bundle: String,
    pub(crate) images: VisionBatch,
    pub(crate) runs: Vec<RewardRun>,
    /// Each request, or why it cannot be scored.
    pub(crate) requests: Vec<Result<RequestInfo>>,
    /// The time that preparing took.
    pub(crate) time: Duration,
}

/// One run of the reward graph.
pub(crate) struct RewardRun {
    pub(crate) forest: Forest,
    pub(crate) rope: RopeTables,
    /// The place of each reward: a request, counted without those that cannot be scored, and one of its responses.
    pub(crate) places: Vec<Place>,
}

/// A response: its request and its index there.
pub(crate) type Place = (usize, usize);

/// The counts of a request.
pub(crate) struct RequestInfo {
    /// Tokens of its conversations, without sharing.
    pub(crate) tokens: usize,
    /// Tiles of its images.
    pub(crate) tiles: usize,
    /// For each response, whether it was cut.
    pub(crate) truncated: Vec<bool>,
}

/// A request as conversations and the places of their images.
pub(crate) struct Tokenized<'a> {
    /// The prompt as the model sees it.
    pub(crate) prompt: Cow<'a, Prompt>,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) images: Vec<ImageRows>,
}

impl Prepared {
    /// Packs the requests that could be tokenised. Those with equal prompt and images are one document.
    pub(crate) fn new(
        images: VisionBatch,
        tokenized: Vec<Result<Tokenized>>,
        bundle: &Bundle,
        packing: &Packing,
    ) -> Result<Self> {
        let manifest = bundle.manifest();
        let (documents, places) = documents(tokenized.iter().flatten());
        let batches = forest::batches(&documents, &manifest.rope, packing);
        let batches = batches.map_err(Error::Prompt)?.into_iter();
        let place = |(document, branch): (usize, usize)| places[document][branch];
        let run = |batch: Batch| RewardRun {
            rope: manifest.rope.tables(&batch.forest.rope),
            forest: batch.forest,
            places: batch.sources.into_iter().map(place).collect(),
        };
        let runs = batches.map(run).collect();
        let requests = tokenized.into_iter();
        Ok(Self {
            bundle: bundle.hash().to_owned(),
            images,
            runs,
            requests: requests.map(|request| Ok(request?.info())).collect(),
            time: Duration::ZERO,
        })
    }
}

impl RequestInfo {
    /// The request's scores.
    pub(crate) fn scores(self, rewards: Vec<f32>, times: Times) -> Scores {
        Scores {
            rewards,
            truncated: self.truncated,
            tokens: self.tokens,
            tiles: self.tiles,
            times,
        }
    }

    /// Adds what does not depend on runs.
    pub(crate) fn add_to(&self, usage: &mut Usage) {
        usage.responses += self.truncated.len() as u64;
        usage.truncated += self.truncated.iter().filter(|cut| **cut).count() as u64;
        usage.tokens_without_sharing += self.tokens as u64;
    }
}

impl Tokenized<'_> {
    fn image_rows(&self) -> Vec<i64> {
        let rows = self.images.iter().flat_map(|image| image.rows.clone());
        rows.map(|row| row as i64).collect()
    }

    fn info(&self) -> RequestInfo {
        RequestInfo {
            tiles: self.images.iter().map(|image| image.extent.tiles()).sum(),
            tokens: self.conversations.iter().map(|c| c.ids.len()).sum(),
            truncated: self.conversations.iter().map(|c| c.truncated).collect(),
        }
    }
}

/// A document for each distinct prompt with its images, in the order of their first requests, and the place of each of
/// its branches.
fn documents<'a>(
    requests: impl Iterator<Item = &'a Tokenized<'a>>,
) -> (Vec<Document<'a>>, Vec<Vec<Place>>) {
    let mut indices = HashMap::new();
    let (mut documents, mut places) = (Vec::<Document>::new(), Vec::<Vec<Place>>::new());
    for (request, tokenized) in requests.enumerate() {
        let entry = indices.entry((&tokenized.prompt, &tokenized.images));
        let index = *entry.or_insert(documents.len());
        if index == documents.len() {
            places.push(Vec::new());
            documents.push(Document {
                branches: Vec::new(),
                image_rows: tokenized.image_rows(),
            });
        }
        documents[index].branches.extend(&tokenized.conversations);
        let responses = 0..tokenized.conversations.len();
        places[index].extend(responses.map(|response| (request, response)));
    }
    (documents, places)
}

/// The layout on the options' device.
pub(crate) fn packing(manifest: &Manifest, options: &Options) -> Packing {
    Packing {
        batch_tokens: options.batch_tokens,
        most_rows: options.device.most_rows(),
        row_multiple: options.device.row_multiple(),
        cost: Cost::new(
            manifest.work,
            Rates::of(manifest.target, manifest.precision),
        ),
    }
}
