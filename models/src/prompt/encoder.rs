//! A tokenizer with the settings of prompts.

use super::script::text;
use super::settings::PromptSettings;
use crate::image::Extent;
use crate::tokenizer::{Piece, Tokenizer, Tokens};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) tokenizer: Tokenizer,
    pub(super) settings: PromptSettings,
    /// Name and id of the image tokens; `None` where no text is one.
    pub(super) image_context: Option<(&'static str, u32)>,
}

impl Encoder {
    pub(super) fn encode(&self, pieces: &[Piece]) -> Result<Tokens> {
        if self.settings.literal_special_tokens {
            self.tokenizer.encode_pieces(pieces)
        } else {
            self.tokenizer.encode_parsed(&text(pieces))
        }
    }

    /// The number of tokens of an image.
    pub(super) fn image_tokens_of(&self, image: &Extent) -> usize {
        image.units() * self.settings.tokens_per_tile
    }

    pub(super) fn context_id(&self) -> Option<u32> {
        self.image_context.map(|(_, id)| id)
    }

    /// The indices of the image tokens.
    pub(super) fn image_tokens(&self, ids: &[u32]) -> impl Iterator<Item = usize> {
        let context = self.context_id();
        let is_image = move |(at, &id): (usize, &u32)| (Some(id) == context).then_some(at);
        ids.iter().enumerate().filter_map(is_image)
    }

    /// `max_length` cuts some of the `needed` image tokens.
    pub(super) fn images_cut(&self, needed: usize) -> Error {
        Error::ImageTokensCut {
            needed,
            max_length: self.settings.max_length,
        }
    }
}
