//! From rows to the network's input: a forest of tokens and the tiles of its images, computed on the host.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use seeward_models::chat::Prompt;
use seeward_models::forest::Document;
use seeward_models::hash::hash;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, Extent, ImageSettings, Pixels};
use seeward_models::kinds::{InputMode, Transparency};
use seeward_models::prompt::{Conversation, Prompter};
use seeward_models::reading::Reading;
use seeward_models::rope::RopeSettings;
use seeward_models::sample::{ImageRef, Pair, Sft};
use seeward_models::{Error, Result};

use crate::data::cached::CachedIndex;
use crate::data::inputs::{Image, Images, Inputs, Targets, WHITE, WHITE_IMAGE};
use crate::data::rows::Row;

/// The preprocessing of one branch: tokenizer and template, tiling, and input mode.
pub struct Preprocessor {
    /// Converts prompt and response to token ids.
    pub(crate) prompter: Prompter,
    /// Cuts images into tiles or patches.
    pub(crate) settings: ImageSettings,
    /// Where rewards are read.
    pub(crate) reading: Reading,
    /// Transparent pixels of images.
    pub(crate) transparency: Transparency,
    /// Whether the branch sees images, text or both.
    pub mode: InputMode,
    /// Rotary embedding of the language model; conversations with different scalings share nothing.
    pub rope: RopeSettings,
    /// Whether common parts are computed once: equal images, and the common prefix of a pair's two sides.
    pub(crate) shared: bool,
    /// Rows that need padding or a tree mask are padded to a multiple of this number of tokens.
    pub row_multiple: usize,
    /// Images whose features the branch's model has cached.
    pub(crate) cached: Arc<CachedIndex>,
}

impl Preprocessor {
    /// Preprocesses pairs as documents of two branches. Rewards are ordered chosen, rejected, chosen, … A pair shares
    /// nothing if its two sides see different images or have different rotary scalings.
    ///
    /// # Errors
    /// An image cannot be read or decoded, or a conversation cannot be tokenised; with the place of its row.
    pub fn pairs(&self, rows: &[&Row<Pair>]) -> Result<Inputs> {
        let sides: Vec<_> = rows.iter().flat_map(|row| Side::both(row)).collect();
        let (images, conversations) = self.read(&sides)?;
        let pairs = images.seen.chunks_exact(2);
        let documents: Vec<_> = pairs
            .zip(conversations.chunks_exact(2))
            .flat_map(|(seen, sides)| self.pair(&images, seen, sides))
            .collect();
        images.inputs(&documents, &self.rope, self.row_multiple)
    }

    /// Preprocesses rows as documents of one branch, with the response's tokens as targets.
    ///
    /// # Errors
    /// As [`pairs`](Self::pairs).
    pub(crate) fn sft(&self, rows: &[&Row<Sft>]) -> Result<Inputs> {
        let sides: Vec<_> = rows.iter().map(|row| Side::only(row)).collect();
        let (images, conversations) = self.read(&sides)?;
        let alone = images.seen.iter().zip(&conversations);
        let documents: Vec<_> = alone
            .map(|(seen, c)| images.document(seen, vec![c]))
            .collect();
        let mut inputs = images.inputs(&documents, &self.rope, self.row_multiple)?;
        inputs.targets = Targets::of(&inputs.forest, &conversations);
        Ok(inputs)
    }

    /// The images and conversations of all sides.
    fn read(&self, sides: &[Side]) -> Result<(Images, Vec<Conversation>)> {
        let seen: Vec<_> = sides.iter().map(|side| self.seen(side.images)).collect();
        let images = self.images(&seen)?;
        let conversation = |(side, seen): (&Side, &Vec<usize>)| {
            self.conversation(side.prompt, side.response, &images.extents_of(seen))
                .map_err(|e| e.at(&side.place))
        };
        let conversations = sides.par_iter().zip(&images.seen).map(conversation);
        let conversations = conversations.collect::<Result<_>>()?;
        Ok((images, conversations))
    }

    /// The documents of a pair: one if its two sides share a prefix, else two.
    fn pair<'c>(
        &self,
        images: &Images,
        seen: &[Vec<usize>],
        sides: &'c [Conversation],
    ) -> Vec<Document<'c>> {
        let scaling = |side: &Conversation| self.rope.scaled_by(side.ids.len());
        if self.shared && seen[0] == seen[1] && scaling(&sides[0]) == scaling(&sides[1]) {
            vec![images.document(&seen[0], vec![&sides[0], &sides[1]])]
        } else {
            let alone = seen.iter().zip(sides);
            alone
                .map(|(seen, side)| images.document(seen, vec![side]))
                .collect()
        }
    }

    /// The images that this branch sees. A text-only branch sees the white image instead of all others, or no image
    /// without a vision encoder.
    pub(crate) fn seen<'a>(&self, images: &'a [ImageRef]) -> Vec<&'a ImageRef> {
        match self.mode {
            InputMode::TextOnly if self.prompter.settings().tokens_per_tile == 0 => Vec::new(),
            InputMode::TextOnly => vec![&WHITE_IMAGE],
            _ => images.iter().collect(),
        }
    }

    /// Tokenises one conversation as this branch sees it, with images of these extents.
    ///
    /// # Errors
    /// As [`Prompter::conversation`].
    pub fn conversation(
        &self,
        prompt: &Prompt,
        response: &str,
        images: &[Extent],
    ) -> Result<Conversation> {
        let prompt = prompt.seen(self.mode);
        let read = self.prompter.conversation(&prompt, response, images)?;
        self.reading.check(&read.ids).map(|()| read)
    }

    /// The extent of an image that this branch sees, from its header.
    ///
    /// # Errors
    /// The file cannot be read, or its header is one that training refuses.
    pub fn extent(&self, image: &ImageRef) -> Result<Extent> {
        if *image == WHITE_IMAGE {
            return self.settings.white_extent();
        }
        let (width, height) = match image {
            ImageRef::File(path) => image::file_dimensions(Path::new(path), DEFAULT_MAX_PIXELS)?,
            ImageRef::Bytes(bytes) => image::dimensions(bytes)?,
        };
        let extent = self.settings.extent(width, height);
        extent.map_err(|e| e.at(image))
    }

    /// Image tokens of an image of this extent.
    pub(crate) fn image_tokens(&self, extent: Extent) -> usize {
        extent.units() * self.prompter.settings().tokens_per_tile
    }

    /// Reads the images of all conversations: each distinct image once, in the order of first use, or, without sharing,
    /// once for each use.
    fn images(&self, seen: &[Vec<&ImageRef>]) -> Result<Images> {
        let (mut index, mut paths) = (HashMap::new(), Vec::new());
        let mut number = |path| {
            let next = paths.len();
            let number = if self.shared {
                *index.entry(path).or_insert(next)
            } else {
                next
            };
            if number == next {
                paths.push(path);
            }
            number
        };
        let seen = seen
            .iter()
            .map(|paths| paths.iter().map(|path| number(*path)).collect())
            .collect();
        let images: Result<_> = paths.par_iter().map(|path| self.image(path)).collect();
        Ok(Images::new(
            seen,
            images?,
            self.prompter.settings().tokens_per_tile,
        ))
    }

    fn image(&self, image: &ImageRef) -> Result<Image> {
        if *image == WHITE_IMAGE {
            return self.unless_cached(WHITE, || self.settings.white());
        }
        let bytes = image
            .content()
            .map_err(|e| Error::io(image.to_string(), e))?;
        let decode = || image::decode_with(&bytes, DEFAULT_MAX_PIXELS, self.transparency);
        let cut = || self.settings.cut(&decode()?);
        self.unless_cached(&hash(&bytes), cut)
            .map_err(|e| e.at(image))
    }

    /// The image with this content, cut unless its features are cached.
    fn unless_cached(&self, content: &str, cut: impl Fn() -> Result<Pixels>) -> Result<Image> {
        let (extent, pixels) = match self.cached.extent(content) {
            Some(extent) => (extent, None),
            None => {
                let pixels = cut()?;
                (pixels.extent(), Some(pixels))
            }
        };
        Ok(Image {
            content: content.to_owned(),
            extent,
            pixels,
        })
    }
}

/// One conversation of a row, with the row's place.
struct Side<'a> {
    place: String,
    prompt: &'a Prompt,
    response: &'a str,
    images: &'a [ImageRef],
}

impl<'a> Side<'a> {
    fn both(row: &'a Row<Pair>) -> [Self; 2] {
        let pair = &row.sample;
        let side = |response: &'a String, images: &'a Vec<ImageRef>| Self {
            place: row.place(),
            prompt: &pair.prompt,
            response,
            images,
        };
        [
            side(&pair.chosen, &pair.chosen_images),
            side(&pair.rejected, &pair.rejected_images),
        ]
    }

    fn only(row: &'a Row<Sft>) -> Self {
        Self {
            place: row.place(),
            prompt: &row.sample.prompt,
            response: &row.sample.response,
            images: &row.sample.images,
        }
    }
}
