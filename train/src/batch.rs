//! Rows → what the network reads: a forest of tokens and the tiles of its images, made away from the device.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use seeward_models::bundle::InputMode;
use seeward_models::forest::{Document, Forest};
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, Rgb, TileSettings, Tiles};
use seeward_models::net::rope::RopeSettings;
use seeward_models::prompt::{Conversation, Prompter};
use seeward_models::sample::{Pair, Sft};
use seeward_models::{Error, Result};

use crate::data::Row;

/// How one branch sees a row: its tokenizer and template, its tiles, and what is hidden from it.
pub struct View {
    /// Prompt and response → token ids.
    pub prompter: Prompter,
    /// Image → tiles.
    pub tiles: TileSettings,
    /// What the branch sees.
    pub mode: InputMode,
    /// How its language model turns positions: conversations that it scales differently share nothing.
    pub rope: RopeSettings,
}

/// The input of one forward pass.
pub struct Inputs {
    /// The tokens.
    pub forest: Forest,
    /// u8 [tiles, side, side, 3].
    pub pixels: Vec<u8>,
    /// Number of tiles.
    pub tiles: usize,
    /// Side of a tile.
    pub side: usize,
    /// Next-token targets, for supervised rows.
    pub targets: Targets,
}

/// Tokens to predict, and the flat indices where they are predicted: one token earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Flat indices.
    pub at: Vec<i64>,
    /// Token ids.
    pub ids: Vec<i64>,
}

/// Stands for the white image among the paths of a batch; no file is named so.
const WHITE: &str = "";

impl View {
    /// The pairs as documents of two branches; rewards come out as chosen, rejected, chosen, … A pair whose two sides
    /// see different images, or are scaled differently, shares nothing.
    pub fn pairs(&self, rows: &[&Row<Pair>]) -> Result<Inputs> {
        let seen: Vec<_> = rows
            .iter()
            .map(|row| self.both_sides(&row.sample))
            .collect();
        let images = self.images(seen.iter().flatten().flatten())?;
        let sides = |(row, [left, right]): (&&Row<Pair>, &[Vec<&str>; 2])| {
            let pair = &row.sample;
            let chosen = self.conversation(&pair.prompt, &pair.chosen, &images.tiles_of(left));
            let rejected = self.conversation(&pair.prompt, &pair.rejected, &images.tiles_of(right));
            let both = chosen.and_then(|chosen| Ok([chosen, rejected?]));
            both.map_err(|e| e.at(row.place()))
        };
        let sides: Vec<_> = rows
            .par_iter()
            .zip(&seen)
            .map(sides)
            .collect::<Result<_>>()?;
        let pairs = seen.iter().zip(&sides);
        let documents: Vec<Document> = pairs
            .flat_map(|(seen, sides)| images.pair(seen, sides, &self.rope))
            .collect();
        images.inputs(&documents, &self.rope)
    }

    /// The rows as documents of one branch, with the response's tokens as targets.
    pub fn sft(&self, rows: &[&Row<Sft>]) -> Result<Inputs> {
        let seen: Vec<_> = rows
            .iter()
            .map(|row| self.seen(&row.sample.images))
            .collect();
        let images = self.images(seen.iter().flatten())?;
        let conversation = |(row, seen): (&&Row<Sft>, &Vec<&str>)| {
            let Sft {
                prompt, response, ..
            } = &row.sample;
            self.conversation(prompt, response, &images.tiles_of(seen))
                .map_err(|e| e.at(row.place()))
        };
        let conversations: Vec<_> = rows
            .par_iter()
            .zip(&seen)
            .map(conversation)
            .collect::<Result<_>>()?;
        let pairs = seen.iter().zip(&conversations);
        let documents: Vec<_> = pairs
            .map(|(seen, c)| images.document(seen, vec![c]))
            .collect();
        let mut inputs = images.inputs(&documents, &self.rope)?;
        inputs.targets = Targets::of(&inputs.forest, &conversations);
        Ok(inputs)
    }

    fn both_sides<'a>(&self, pair: &'a Pair) -> [Vec<&'a str>; 2] {
        [
            self.seen(&pair.chosen_images),
            self.seen(&pair.rejected_images),
        ]
    }

    /// The images that this branch sees: a text-only one the white image in place of all, or nothing where it has no
    /// vision encoder.
    pub fn seen<'a>(&self, paths: &'a [String]) -> Vec<&'a str> {
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

    /// Each different image once, in the order of first use.
    fn images<'a>(&self, paths: impl Iterator<Item = &'a &'a str>) -> Result<Images<'a>> {
        let (mut index, mut distinct) = (HashMap::new(), Vec::new());
        for path in paths {
            index.entry(*path).or_insert_with(|| {
                distinct.push(*path);
                distinct.len() - 1
            });
        }
        let tiles = distinct
            .par_iter()
            .map(|path| self.read(path))
            .collect::<Result<_>>()?;
        Ok(Images::new(
            index,
            tiles,
            self.prompter.settings().tokens_per_tile,
        ))
    }

    fn read(&self, path: &str) -> Result<Tiles> {
        if path == WHITE {
            return image::tiles(&Rgb::white(), &self.tiles.one_tile());
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let picture = image::decode(&bytes, DEFAULT_MAX_PIXELS);
        picture
            .and_then(|picture| image::tiles(&picture, &self.tiles))
            .map_err(|e| e.at(path))
    }
}

/// The different images of a batch.
struct Images<'a> {
    index: HashMap<&'a str, usize>,
    tiles: Vec<Tiles>,
    /// First row of each image in the batch's image embeddings, and behind the last.
    rows: Vec<i64>,
}

impl<'a> Images<'a> {
    fn new(index: HashMap<&'a str, usize>, tiles: Vec<Tiles>, tokens_per_tile: usize) -> Self {
        let mut rows = vec![0];
        for image in &tiles {
            rows.push(rows[rows.len() - 1] + (image.count * tokens_per_tile) as i64);
        }
        Self { index, tiles, rows }
    }

    fn tiles_of(&self, seen: &[&str]) -> Vec<usize> {
        seen.iter()
            .map(|path| self.tiles[self.index[*path]].count)
            .collect()
    }

    fn document<'c>(&self, seen: &[&str], branches: Vec<&'c Conversation>) -> Document<'c> {
        let rows = |path: &&str| self.rows[self.index[path]]..self.rows[self.index[path] + 1];
        Document {
            branches,
            image_rows: seen.iter().flat_map(rows).collect(),
        }
    }

    fn pair<'c>(
        &self,
        [left, right]: &[Vec<&str>; 2],
        [chosen, rejected]: &'c [Conversation; 2],
        rope: &RopeSettings,
    ) -> Vec<Document<'c>> {
        let scaling = |side: &Conversation| rope.scaled_by(side.ids.len());
        if left == right && scaling(chosen) == scaling(rejected) {
            vec![self.document(left, vec![chosen, rejected])]
        } else {
            vec![
                self.document(left, vec![chosen]),
                self.document(right, vec![rejected]),
            ]
        }
    }

    fn inputs(self, documents: &[Document], rope: &RopeSettings) -> Result<Inputs> {
        let rows: Vec<Vec<&Document>> = documents.iter().map(|document| vec![document]).collect();
        Ok(Inputs {
            forest: Forest::new(&rows, rope)?,
            tiles: self.tiles.iter().map(|image| image.count).sum(),
            side: self.tiles.first().map_or(0, |image| image.size as usize),
            pixels: self
                .tiles
                .into_iter()
                .flat_map(|image| image.pixels)
                .collect(),
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
