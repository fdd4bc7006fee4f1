//! Rows → what the network reads: a forest of tokens and the tiles of its images, made away from the device.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use seeward_models::forest::{Document, Forest};
use seeward_models::hash::hash;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, Rgb, TileSettings, Tiles};
use seeward_models::kinds::InputMode;
use seeward_models::prompt::{Conversation, Prompter};
use seeward_models::rope::RopeSettings;
use seeward_models::sample::{Pair, Sft};
use seeward_models::{Error, Result};

use crate::data::cached::CachedIndex;
use crate::data::flops::Workload;
use crate::data::rows::Row;

/// How one branch sees a row: its tokenizer and template, its tiles, and what is hidden from it.
pub struct Preprocessor {
    /// Prompt and response → token ids.
    pub(crate) prompter: Prompter,
    /// Image → tiles.
    pub(crate) tiles: TileSettings,
    /// What the branch sees.
    pub mode: InputMode,
    /// How its language model turns positions: conversations that it scales differently share nothing.
    pub rope: RopeSettings,
    /// Whether what rows have in common is computed once: each different image, and the prefix of a pair's two sides.
    pub(crate) shared: bool,
    /// What the branch's model knows by heart.
    pub(crate) cached: Arc<CachedIndex>,
}

/// The input of one forward pass.
pub struct Inputs {
    /// The tokens.
    pub forest: Forest,
    /// The images: the forest's image rows count through them.
    pub images: Vec<Image>,
    /// Next-token targets, for supervised rows.
    pub(crate) targets: Targets,
    /// How much it is.
    pub(crate) load: Workload,
}

impl Inputs {
    /// Tiles that the vision model sees.
    pub fn tiles(&self) -> usize {
        self.images.iter().map(|image| image.tiles).sum()
    }
}

/// An image of a batch.
pub struct Image {
    /// What is in it: the hash of the file.
    pub(crate) content: String,
    /// Number of tiles.
    pub(crate) tiles: usize,
    /// The tiles; none where the model has their features already.
    pub pixels: Option<Tiles>,
}

/// Tokens to predict, and the flat indices where they are predicted: one token earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Flat indices.
    pub(crate) at: Vec<i64>,
    /// Token ids.
    pub(crate) ids: Vec<i64>,
}

/// Stands for the white image among the paths of a batch and their contents; no file is named so, and no hash is.
pub(crate) const WHITE: &str = "";

impl Preprocessor {
    /// The pairs as documents of two branches; rewards come out as chosen, rejected, chosen, … A pair whose two sides
    /// see different images, or are scaled differently, shares nothing.
    ///
    /// # Errors
    /// A row whose conversation cannot be tokenised, or whose image cannot be read.
    pub fn pairs(&self, rows: &[&Row<Pair>]) -> Result<Inputs> {
        let sides: Vec<_> = rows.iter().flat_map(|row| Side::both(row)).collect();
        let (images, conversations) = self.read(&sides)?;
        let pairs = images.seen.chunks_exact(2);
        let documents: Vec<_> = pairs
            .zip(conversations.chunks_exact(2))
            .flat_map(|(seen, sides)| self.pair(&images, seen, sides))
            .collect();
        images.inputs(&documents, &self.rope)
    }

    /// The rows as documents of one branch, with the response's tokens as targets.
    pub(crate) fn sft(&self, rows: &[&Row<Sft>]) -> Result<Inputs> {
        let sides: Vec<_> = rows.iter().map(|row| Side::only(row)).collect();
        let (images, conversations) = self.read(&sides)?;
        let alone = images.seen.iter().zip(&conversations);
        let documents: Vec<_> = alone
            .map(|(seen, c)| images.document(seen, vec![c]))
            .collect();
        let mut inputs = images.inputs(&documents, &self.rope)?;
        inputs.targets = Targets::of(&inputs.forest, &conversations);
        Ok(inputs)
    }

    /// The images of all sides, and each one's conversation.
    fn read(&self, sides: &[Side]) -> Result<(Images, Vec<Conversation>)> {
        let seen: Vec<_> = sides.iter().map(|side| self.seen(side.images)).collect();
        let images = self.images(&seen)?;
        let conversation = |(side, seen): (&Side, &Vec<usize>)| {
            self.conversation(side.prompt, side.response, &images.tiles_of(seen))
                .map_err(|e| e.at(&side.place))
        };
        let conversations = sides.par_iter().zip(&images.seen).map(conversation);
        let conversations = conversations.collect::<Result<_>>()?;
        Ok((images, conversations))
    }

    /// One document where the two sides of a pair share, else two.
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

    /// The images that this branch sees: a text-only one the white image in place of all, or nothing where it has no
    /// vision encoder.
    pub(crate) fn seen<'a>(&self, paths: &'a [String]) -> Vec<&'a str> {
        match self.mode {
            InputMode::TextOnly if self.prompter.settings().tokens_per_tile == 0 => Vec::new(),
            InputMode::TextOnly => vec![WHITE],
            _ => paths.iter().map(String::as_str).collect(),
        }
    }

    /// One conversation as this branch sees it, about images of so many `tiles` each.
    ///
    /// # Errors
    /// As [`Prompter::conversation`].
    pub fn conversation(
        &self,
        prompt: &str,
        response: &str,
        tiles: &[usize],
    ) -> Result<Conversation> {
        let prompt = match self.mode {
            InputMode::ImageOnly => "",
            _ => prompt,
        };
        self.prompter.conversation(prompt, response, tiles)
    }

    /// The number of tiles of an image that this branch sees, by its header.
    ///
    /// # Errors
    /// The file cannot be read, or training would refuse it by its header.
    pub fn tile_count(&self, path: &str) -> Result<usize> {
        if path == WHITE {
            let white = Rgb::white();
            let tiles = self.tiles.one_tile();
            return Ok(image::tile_count(white.width(), white.height(), &tiles));
        }
        let (width, height) = image::file_dimensions(Path::new(path), DEFAULT_MAX_PIXELS)?;
        Ok(image::tile_count(width, height, &self.tiles))
    }

    /// The images of every conversation: each different one once, in the order of first use, or, where nothing is
    /// shared, each as often as it is seen.
    fn images(&self, seen: &[Vec<&str>]) -> Result<Images> {
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

    fn image(&self, path: &str) -> Result<Image> {
        if path == WHITE {
            return self.unless_cached(WHITE, || {
                image::tiles(&Rgb::white(), &self.tiles.one_tile())
            });
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let tiles = || image::tiles(&image::decode(&bytes, DEFAULT_MAX_PIXELS)?, &self.tiles);
        self.unless_cached(&hash(&bytes), tiles)
            .map_err(|e| e.at(path))
    }

    /// An image of this content, made into tiles unless the model has its features.
    fn unless_cached(&self, content: &str, tiles: impl Fn() -> Result<Tiles>) -> Result<Image> {
        let (tiles, pixels) = match self.cached.tiles(content) {
            Some(tiles) => (tiles, None),
            None => {
                let pixels = tiles()?;
                (pixels.dim().0, Some(pixels))
            }
        };
        Ok(Image {
            content: content.to_owned(),
            tiles,
            pixels,
        })
    }
}

/// One conversation of a row, and where the row stands.
struct Side<'a> {
    place: String,
    prompt: &'a str,
    response: &'a str,
    images: &'a [String],
}

impl<'a> Side<'a> {
    fn both(row: &'a Row<Pair>) -> [Self; 2] {
        let pair = &row.sample;
        let side = |response: &'a String, images: &'a Vec<String>| Self {
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

/// The images of a batch.
struct Images {
    /// For every conversation, the numbers of the images that it sees.
    seen: Vec<Vec<usize>>,
    images: Vec<Image>,
    /// First row of each image in the batch's image embeddings, and behind the last.
    rows: Vec<i64>,
}

impl Images {
    fn new(seen: Vec<Vec<usize>>, images: Vec<Image>, tokens_per_tile: usize) -> Self {
        let mut rows = vec![0];
        for image in &images {
            rows.push(rows[rows.len() - 1] + (image.tiles * tokens_per_tile) as i64);
        }
        Self { seen, images, rows }
    }

    fn tiles_of(&self, seen: &[usize]) -> Vec<usize> {
        seen.iter().map(|&image| self.images[image].tiles).collect()
    }

    fn document<'c>(&self, seen: &[usize], branches: Vec<&'c Conversation>) -> Document<'c> {
        let rows = |&image: &usize| self.rows[image]..self.rows[image + 1];
        Document {
            branches,
            image_rows: seen.iter().flat_map(rows).collect(),
        }
    }

    fn load(&self, forest: &Forest, documents: &[Document]) -> Workload {
        let conversations = documents.iter().flat_map(|document| &document.branches);
        Workload {
            tokens: forest.used_tokens,
            padding: forest.input_ids.len() - forest.used_tokens,
            tiles: self.images.iter().map(|image| image.tiles).sum(),
            tokens_unshared: conversations
                .map(|conversation| conversation.ids.len())
                .sum(),
            tiles_unshared: self.seen.iter().flat_map(|seen| self.tiles_of(seen)).sum(),
        }
    }

    fn inputs(self, documents: &[Document], rope: &RopeSettings) -> Result<Inputs> {
        let rows: Vec<Vec<&Document>> = documents.iter().map(|document| vec![document]).collect();
        let forest = Forest::new(&rows, rope)?;
        Ok(Inputs {
            load: self.load(&forest, documents),
            forest,
            images: self.images,
            targets: Targets::default(),
        })
    }
}

impl Targets {
    fn of(forest: &Forest, conversations: &[Conversation]) -> Self {
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
