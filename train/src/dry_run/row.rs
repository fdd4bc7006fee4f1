//! One pair or response, with its images: its conversations, computation and size.

use std::collections::HashMap;
use std::path::Path;

use seeward_models::chat::Prompt;
use seeward_models::forest::Document;
use seeward_models::image::Extent;
use seeward_models::prompt::Conversation;
use seeward_models::sample::ImageRef;

use crate::data::flops::Workload;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::Row;
use crate::dry_run::batch_shape::RowShape;

/// The extent of an image, or the error of its header.
pub(super) enum Measured {
    Extent(Extent),
    Missing(String),
    Unreadable(String),
}

impl Measured {
    pub(super) fn of(preprocessor: &Preprocessor, image: &ImageRef) -> Self {
        let is_missing = |image: &ImageRef| match image {
            ImageRef::File(path) => !Path::new(path).exists(),
            ImageRef::Bytes(_) => false,
        };
        match preprocessor.extent(image) {
            Ok(extent) => Self::Extent(extent),
            Err(e) if is_missing(image) => Self::Missing(e.to_string()),
            Err(e) => Self::Unreadable(e.to_string()),
        }
    }

    pub(super) fn extent(&self) -> Option<Extent> {
        match self {
            Self::Extent(extent) => Some(*extent),
            _ => None,
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            Self::Extent(_) => None,
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
        let extent = |image: &ImageRef| images[&*image.name()].extent();
        let sides = self.sides.iter().map(|(response, seen)| {
            let extents: Option<Vec<_>> = preprocessor.seen(seen).into_iter().map(extent).collect();
            Some((*response, extents?))
        });
        let sides = sides.collect::<Option<Vec<_>>>()?;
        let conversation = |(response, extents): (&str, Vec<_>)| {
            preprocessor.conversation(self.prompt, response, &extents)
        };
        Some(sides.into_iter().map(conversation).collect())
    }
}

impl RowTexts<'_> {
    /// The units of the images of each conversation.
    fn units(&self, preprocessor: &Preprocessor, images: &HashMap<String, Measured>) -> Vec<usize> {
        let units = |(_, seen): &(&str, &[ImageRef])| -> usize {
            let seen = preprocessor.seen(seen).into_iter();
            let extents = seen.filter_map(|image| images[&*image.name()].extent());
            extents.map(Extent::units).sum()
        };
        self.sides.iter().map(units).collect()
    }

    /// The computation and the size of the row. The sides of a pair share their prefix if they see the same images.
    pub(super) fn size(
        &self,
        preprocessor: &Preprocessor,
        images: &HashMap<String, Measured>,
        sides: &[Conversation],
    ) -> (Workload, RowShape) {
        let units = self.units(preprocessor, images);
        let lengths = || sides.iter().map(|side| side.ids.len());
        let unshared = (lengths().sum(), units.iter().sum());
        let is_shared =
            preprocessor.shared && self.sides.iter().all(|(_, seen)| *seen == self.sides[0].1);
        let document = Document {
            branches: sides.iter().collect(),
            image_rows: Vec::new(),
        };
        let (documents, longest, computed) = match is_shared {
            true => (1, document.tokens(), (document.tokens(), units[0])),
            false => (sides.len(), lengths().max().unwrap_or(0), unshared),
        };
        let load = Workload {
            tokens: computed.0,
            units: computed.1,
            padding: 0,
            tokens_unshared: unshared.0,
            units_unshared: unshared.1,
        };
        let targets = sides.iter().map(|c| c.ids.len() - c.response_start);
        let shape = RowShape {
            documents,
            tokens: longest,
            units: units.into_iter().max().unwrap_or(0),
            targets: targets.sum(),
        };
        (load, shape)
    }
}
