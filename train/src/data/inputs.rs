//! The input of a forward pass: a forest of tokens, the images of its rows, and targets.

use seeward_models::Result;
use seeward_models::forest::{Document, Forest};
use seeward_models::image::{Extent, Pixels};
use seeward_models::prompt::Conversation;
use seeward_models::rope::RopeSettings;
use seeward_models::sample::ImageRef;

use crate::data::flops::Workload;

/// The input of one forward pass.
pub struct Inputs {
    /// The tokens.
    pub forest: Forest,
    /// The images; the forest's image rows index their embeddings, concatenated.
    pub images: Vec<Image>,
    /// Next-token targets, in supervised training.
    pub(crate) targets: Targets,
    /// Counts of tokens and units of images.
    pub(crate) load: Workload,
}

impl Inputs {
    /// Number of tiles over all images; a whole image counts as one.
    pub fn tiles(&self) -> usize {
        self.images.iter().map(|image| image.extent.tiles()).sum()
    }
}

/// An image of a batch.
pub struct Image {
    /// Hash of the file.
    pub(crate) content: String,
    /// The number of its tiles, or of its rows and columns of tokens.
    pub(crate) extent: Extent,
    /// The pixels; `None` if the model has cached their features.
    pub pixels: Option<Pixels>,
}

/// Tokens to predict, and the positions that predict them: one token earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Flat indices of the predicting positions.
    pub(crate) at: Vec<i64>,
    /// Ids of the predicted tokens.
    pub(crate) ids: Vec<i64>,
}

/// Content hash that stands for the white image; no hash is empty.
pub(crate) const WHITE: &str = "";
/// The white image; no path is empty.
pub(crate) static WHITE_IMAGE: ImageRef = ImageRef::File(String::new());

/// The images of a batch.
pub(super) struct Images {
    /// For each conversation, the indices of the images that it sees.
    pub(super) seen: Vec<Vec<usize>>,
    images: Vec<Image>,
    /// First row of each image in the batch's image embeddings, and the end of the last image.
    rows: Vec<i64>,
}

impl Images {
    pub(super) fn new(seen: Vec<Vec<usize>>, images: Vec<Image>, tokens_per_tile: usize) -> Self {
        let mut rows = vec![0];
        for image in &images {
            rows.push(rows[rows.len() - 1] + (image.extent.units() * tokens_per_tile) as i64);
        }
        Self { seen, images, rows }
    }

    pub(super) fn extents_of(&self, seen: &[usize]) -> Vec<Extent> {
        seen.iter()
            .map(|&image| self.images[image].extent)
            .collect()
    }

    pub(super) fn document<'c>(
        &self,
        seen: &[usize],
        branches: Vec<&'c Conversation>,
    ) -> Document<'c> {
        let rows = |&image: &usize| self.rows[image]..self.rows[image + 1];
        Document {
            branches,
            image_rows: seen.iter().flat_map(rows).collect(),
        }
    }

    fn load(&self, forest: &Forest, documents: &[Document]) -> Workload {
        let conversations = documents.iter().flat_map(|document| &document.branches);
        let seen = self.seen.iter().flat_map(|seen| self.extents_of(seen));
        Workload {
            tokens: forest.used_tokens,
            padding: forest.input_ids.len() - forest.used_tokens,
            units: self.images.iter().map(|image| image.extent.units()).sum(),
            tokens_unshared: conversations
                .map(|conversation| conversation.ids.len())
                .sum(),
            units_unshared: seen.map(Extent::units).sum(),
        }
    }

    /// A row for each document. Lone conversations of one length are not padded: they are attended without a mask.
    pub(super) fn inputs(
        self,
        documents: &[Document],
        rope: &RopeSettings,
        row_multiple: usize,
    ) -> Result<Inputs> {
        let rows: Vec<Vec<&Document>> = documents.iter().map(|document| vec![document]).collect();
        let forest = match are_lone(documents) {
            true => Forest::new(&rows, rope)?,
            false => Forest::padded(&rows, rope, row_multiple)?,
        };
        Ok(Inputs {
            load: self.load(&forest, documents),
            forest,
            images: self.images,
            targets: Targets::default(),
        })
    }
}

/// Whether all documents are one conversation, of one length.
fn are_lone(documents: &[Document]) -> bool {
    let mut lengths = documents
        .iter()
        .map(|document| match document.branches[..] {
            [alone] => Some(alone.ids.len()),
            _ => None,
        });
    let first = lengths.next().flatten();
    first.is_some() && lengths.all(|length| length == first)
}

impl Targets {
    pub(super) fn of(forest: &Forest, conversations: &[Conversation]) -> Self {
        let mut targets = Self::default();
        for (place, conversation) in forest.branches.iter().zip(conversations) {
            for token in conversation.response_start.max(1)..conversation.ids.len() {
                targets.at.push(place.flat(token - 1));
                targets.ids.push(i64::from(conversation.ids[token]));
            }
        }
        targets
    }
}
