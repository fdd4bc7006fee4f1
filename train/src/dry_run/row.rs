//! One pair or response, with its images: its conversations, computation and size.

use std::collections::HashMap;
use std::path::Path;

use seeward_models::chat::Prompt;
use seeward_models::forest::Document;
use seeward_models::prompt::Conversation;
use seeward_models::sample::ImageRef;

use crate::data::flops::Workload;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::Row;
use crate::dry_run::batch_shape::RowShape;

/// The tile count of an image, or the error of its header.
pub(super) enum Measured {
    Tiles(usize),
    Missing(String),
    Unreadable(String),
}

impl Measured {
    pub(super) fn of(preprocessor: &Preprocessor, image: &ImageRef) -> Self {
        let is_missing = |image: &ImageRef| match image {
            ImageRef::File(path) => !Path::new(path).exists(),
            ImageRef::Bytes(_) => false,
        };
        match preprocessor.tile_count(image) {
            Ok(tiles) => Self::Tiles(tiles),
            Err(e) if is_missing(image) => Self::Missing(e.to_string()),
            Err(e) => Self::Unreadable(e.to_string()),
        }
    }

    pub(super) fn tiles(&self) -> Option<usize> {
        match self {
            Self::Tiles(count) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            Self::Tiles(_) => None,
            Self::Missing(problem) | Self::Unreadable(problem) => Some(problem),
        }
    }
}

/// The texts and images of one pair or response.
pub(super) struct RowTexts<'a> {
    pub(super) place: String,
    prompt: &'a Prompt,
    /// Responses, each with its images.
    pub(super) sides: Vec<(&'a str, &'a [ImageRef])>,
}

impl<'a> RowTexts<'a> {
    pub(super) fn new<T>(
        row: &'a Row<T>,
        prompt: &'a Prompt,
        sides: Vec<(&'a str, &'a [ImageRef])>,
    ) -> Self {
        Self {
            place: row.place(),
            prompt,
            sides,
        }
    }

    /// Tokenises the conversations; `None` if an image has an error.
    pub(super) fn tokenise(
        &self,
        preprocessor: &Preprocessor,
        images: &HashMap<String, Measured>,
    ) -> Option<seeward_models::Result<Vec<Conversation>>> {
        let tiles = |image: &ImageRef| images[&*image.name()].tiles();
        let sides = self.sides.iter().map(|(response, seen)| {
            let tiles: Option<Vec<_>> = preprocessor.seen(seen).into_iter().map(tiles).collect();
            Some((*response, tiles?))
        });
        let sides = sides.collect::<Option<Vec<_>>>()?;
        let conversation = |(response, tiles): (&str, Vec<_>)| {
            preprocessor.conversation(self.prompt, response, &tiles)
        };
        Some(sides.into_iter().map(conversation).collect())
    }
}

impl RowTexts<'_> {
    /// The tile count of each conversation.
    fn tiles(&self, preprocessor: &Preprocessor, images: &HashMap<String, Measured>) -> Vec<usize> {
        let tiles = |(_, seen): &(&str, &[ImageRef])| -> usize {
            let seen = preprocessor.seen(seen).into_iter();
            seen.filter_map(|image| images[&*image.name()].tiles())
                .sum()
        };
        self.sides.iter().map(tiles).collect()
    }

    /// The computation and the size of the row. The sides of a pair share their prefix if they see the same images.
    pub(super) fn size(
        &self,
        preprocessor: &Preprocessor,
        images: &HashMap<String, Measured>,
        sides: &[Conversation],
    ) -> (Workload, RowShape) {
        let tiles = self.tiles(preprocessor, images);
        let lengths = || sides.iter().map(|side| side.ids.len());
        let unshared = (lengths().sum(), tiles.iter().sum());
        let is_shared =
            preprocessor.shared && self.sides.iter().all(|(_, seen)| *seen == self.sides[0].1);
        let document = Document {
            branches: sides.iter().collect(),
            image_rows: Vec::new(),
        };
        let (documents, longest, computed) = match is_shared {
            true => (1, document.tokens(), (document.tokens(), tiles[0])),
            false => (sides.len(), lengths().max().unwrap_or(0), unshared),
        };
        let load = Workload {
            tokens: computed.0,
            tiles: computed.1,
            padding: 0,
            tokens_unshared: unshared.0,
            tiles_unshared: unshared.1,
        };
        let targets = sides.iter().map(|c| c.ids.len() - c.response_start);
        let shape = RowShape {
            documents,
            tokens: longest,
            tiles: tiles.into_iter().max().unwrap_or(0),
            targets: targets.sum(),
        };
        (load, shape)
    }
}
