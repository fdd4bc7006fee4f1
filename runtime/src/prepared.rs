//! What the engine needs of a call: tiles, token layouts, and where every reward belongs.

use seeward_models::bundle::{Bundle, Manifest};
use seeward_models::forest::{self, Batch, Cost, Document, Packing, Rates};
use seeward_models::image::Tiles;
use seeward_models::prompt::Conversation;
use seeward_models::rope::RopeTables;

use crate::images::Encoded;
use crate::{Error, Options, Result};

/// Requests as the engine reads them: pictures as tiles, conversations as packed token ids. Made beside the engine's runs by
/// [`RewardModel::prepare`](crate::RewardModel::prepare), scored by [`RewardModel::run`](crate::RewardModel::run).
///
/// Holds the pixels of the distinct pictures, 0.6 MB for a tile of 448 × 448, until they have been encoded.
pub struct Prepared {
    /// The hash of the bundle that it is for.
    pub(crate) bundle: String,
    pub(crate) pictures: Pictures,
    pub(crate) runs: Vec<Run>,
    /// For each request what it asks, or why it cannot be scored.
    pub(crate) requests: Vec<Result<Asked>>,
}

/// What the vision graph is to encode.
pub(crate) enum Pictures {
    /// The white tile.
    White,
    /// These, one after the other.
    Own(Vec<Tiles>),
}

/// One run of the reward graph.
pub(crate) struct Run {
    pub(crate) batch: Batch,
    pub(crate) rope: RopeTables,
}

/// What is asked of the model.
pub(crate) struct Asked {
    /// Tokens of its conversations, each on its own.
    pub(crate) tokens: usize,
    /// For each response, whether it was cut.
    pub(crate) truncated: Vec<bool>,
}

/// A request's conversations and what they show.
pub(crate) struct Read {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) images: Vec<Encoded>,
}

impl Prepared {
    /// Packs those requests that could be read.
    pub(crate) fn new(
        pictures: Pictures,
        read: Vec<Result<Read>>,
        bundle: &Bundle,
        options: &Options,
    ) -> Result<Self> {
        let manifest = bundle.manifest();
        let documents: Vec<Document> = read.iter().flatten().map(Read::document).collect();
        let batches = forest::batches(&documents, &manifest.rope, &packing(manifest, options));
        let run = |batch: Batch| Run {
            rope: manifest.rope.tables(&batch.forest.rope),
            batch,
        };
        Ok(Self {
            bundle: bundle.hash().to_owned(),
            pictures,
            runs: batches
                .map_err(Error::Prompt)?
                .into_iter()
                .map(run)
                .collect(),
            requests: read.into_iter().map(|read| Ok(read?.asked())).collect(),
        })
    }
}

impl Read {
    fn document(&self) -> Document<'_> {
        let rows = self.images.iter().flat_map(|image| image.rows.clone());
        Document {
            branches: self.conversations.iter().collect(),
            image_rows: rows.map(|row| row as i64).collect(),
        }
    }

    fn asked(&self) -> Asked {
        Asked {
            tokens: self.conversations.iter().map(|c| c.ids.len()).sum(),
            truncated: self.conversations.iter().map(|c| c.truncated).collect(),
        }
    }
}

fn packing(manifest: &Manifest, options: &Options) -> Packing {
    Packing {
        batch_tokens: options.batch_tokens,
        most_rows: options.device.most_rows(),
        cost: Cost::new(manifest.work, Rates::of(manifest.precision)),
    }
}
