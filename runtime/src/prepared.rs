//! A call's inputs of the engine: tiles, token layouts, and the request of every reward.

use seeward_models::bundle::{Bundle, Manifest};
use seeward_models::forest::{self, Batch, Cost, Document, Packing, Rates};
use seeward_models::prompt::Conversation;
use seeward_models::rope::RopeTables;

use crate::vision::{ImageRows, VisionBatch};
use crate::{Error, Options, Result, Usage};

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
}

/// One run of the reward graph.
pub(crate) struct RewardRun {
    pub(crate) batch: Batch,
    pub(crate) rope: RopeTables,
}

/// The counts of a request.
pub(crate) struct RequestInfo {
    /// Tokens of its conversations, without sharing.
    pub(crate) tokens: usize,
    /// For each response, whether it was cut.
    pub(crate) truncated: Vec<bool>,
}

/// A request as conversations and the places of their images.
pub(crate) struct Tokenized {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) images: Vec<ImageRows>,
}

impl Prepared {
    /// Packs the requests that could be tokenised.
    pub(crate) fn new(
        images: VisionBatch,
        tokenized: Vec<Result<Tokenized>>,
        bundle: &Bundle,
        options: &Options,
    ) -> Result<Self> {
        let manifest = bundle.manifest();
        let documents = tokenized.iter().flatten().map(Tokenized::document);
        let documents: Vec<Document> = documents.collect();
        let batches = forest::batches(&documents, &manifest.rope, &packing(manifest, options));
        let batches = batches.map_err(Error::Prompt)?.into_iter();
        let run = |batch: Batch| RewardRun {
            rope: manifest.rope.tables(&batch.forest.rope),
            batch,
        };
        let requests = tokenized.into_iter();
        Ok(Self {
            bundle: bundle.hash().to_owned(),
            images,
            runs: batches.map(run).collect(),
            requests: requests.map(|request| Ok(request?.info())).collect(),
        })
    }
}

impl RequestInfo {
    /// Adds what does not depend on runs.
    pub(crate) fn add_to(&self, usage: &mut Usage) {
        usage.responses += self.truncated.len() as u64;
        usage.truncated += self.truncated.iter().filter(|cut| **cut).count() as u64;
        usage.tokens_without_sharing += self.tokens as u64;
    }
}

impl Tokenized {
    fn document(&self) -> Document<'_> {
        let rows = self.images.iter().flat_map(|image| image.rows.clone());
        Document {
            branches: self.conversations.iter().collect(),
            image_rows: rows.map(|row| row as i64).collect(),
        }
    }

    fn info(&self) -> RequestInfo {
        RequestInfo {
            tokens: self.conversations.iter().map(|c| c.ids.len()).sum(),
            truncated: self.conversations.iter().map(|c| c.truncated).collect(),
        }
    }
}

fn packing(manifest: &Manifest, options: &Options) -> Packing {
    Packing {
        batch_tokens: options.batch_tokens,
        most_rows: options.device.most_rows(),
        cost: Cost::new(
            manifest.work,
            Rates::of(manifest.target, manifest.precision),
        ),
    }
}
