//! Rows → what the network reads: a forest of tokens and the tiles of its images, made away from the device.

use std::collections::HashMap;

use rayon::prelude::*;
use seeward_models::bundle::InputMode;
use seeward_models::forest::{Document, Forest};
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, Rgb, TileSettings, Tiles};
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

impl View {
    /// The pairs as documents of two branches; rewards come out as chosen, rejected, chosen, … A pair whose two sides
    /// see different images shares nothing.
    pub fn pairs(&self, rows: &[&Row<Pair>]) -> Result<Inputs> {
        let paths = rows.iter().flat_map(|row| {
            row.sample
                .chosen_images
                .iter()
                .chain(&row.sample.rejected_images)
        });
        let images = self.images(paths)?;
        let sides = |row: &&Row<Pair>| {
            let Pair {
                prompt,
                chosen,
                rejected,
                chosen_images,
                rejected_images,
            } = &row.sample;
            let chosen = self.conversation(&images, prompt, chosen, chosen_images);
            let both = chosen.and_then(|c| {
                Ok((
                    c,
                    self.conversation(&images, prompt, rejected, rejected_images)?,
                ))
            });
            both.map_err(|e| e.at(row.place()))
        };
        let sides: Vec<_> = rows.par_iter().map(sides).collect::<Result<_>>()?;
        let documents: Vec<Document> = rows
            .iter()
            .zip(&sides)
            .flat_map(|(row, sides)| images.documents(&row.sample, sides))
            .collect();
        images.inputs(&documents)
    }

    /// The rows as documents of one branch, with the response's tokens as targets.
    pub fn sft(&self, rows: &[&Row<Sft>]) -> Result<Inputs> {
        let images = self.images(rows.iter().flat_map(|row| &row.sample.images))?;
        let conversation = |row: &&Row<Sft>| {
            let Sft {
                prompt,
                response,
                images: paths,
            } = &row.sample;
            self.conversation(&images, prompt, response, paths)
                .map_err(|e| e.at(row.place()))
        };
        let conversations: Vec<_> = rows.par_iter().map(conversation).collect::<Result<_>>()?;
        let document = |(row, conversation)| {
            images.document(&(row as &&Row<Sft>).sample.images, vec![conversation])
        };
        let documents: Vec<_> = rows.iter().zip(&conversations).map(document).collect();
        let mut inputs = images.inputs(&documents)?;
        inputs.targets = Targets::of(&inputs.forest, &conversations);
        Ok(inputs)
    }

    fn conversation(
        &self,
        images: &Images,
        prompt: &str,
        response: &str,
        paths: &[String],
    ) -> Result<Conversation> {
        let prompt = if self.mode == InputMode::ImageOnly {
            ""
        } else {
            prompt
        };
        let tiles: Vec<usize> = paths.iter().map(|path| images.get(path).count).collect();
        self.prompter.conversation(prompt, response, &tiles)
    }

    /// Each different image once, in the order of first use.
    fn images<'a>(&self, paths: impl Iterator<Item = &'a String>) -> Result<Images> {
        let mut index = HashMap::new();
        let mut distinct = Vec::new();
        for path in paths {
            if self.mode == InputMode::TextOnly {
                // Every image is the white one.
                index.insert(path.clone(), 0);
            } else if !index.contains_key(path) {
                index.insert(path.clone(), distinct.len());
                distinct.push(path);
            }
        }
        let tiles = if self.mode == InputMode::TextOnly && !index.is_empty() {
            vec![image::tiles(&Rgb::white(), &self.tiles.one_tile())?]
        } else {
            distinct
                .par_iter()
                .map(|path| self.read(path))
                .collect::<Result<_>>()?
        };
        Ok(Images::new(
            index,
            tiles,
            self.prompter.settings().tokens_per_tile,
        ))
    }

    fn read(&self, path: &str) -> Result<Tiles> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let picture = image::decode(&bytes, DEFAULT_MAX_PIXELS);
        picture
            .and_then(|picture| image::tiles(&picture, &self.tiles))
            .map_err(|e| e.at(path))
    }
}

/// The different images of a batch.
struct Images {
    index: HashMap<String, usize>,
    tiles: Vec<Tiles>,
    /// First row of each image in the batch's image embeddings, and behind the last.
    rows: Vec<i64>,
}

impl Images {
    fn new(index: HashMap<String, usize>, tiles: Vec<Tiles>, tokens_per_tile: usize) -> Self {
        let mut rows = vec![0];
        for image in &tiles {
            rows.push(rows[rows.len() - 1] + (image.count * tokens_per_tile) as i64);
        }
        Self { index, tiles, rows }
    }

    fn get(&self, path: &str) -> &Tiles {
        &self.tiles[self.index[path]]
    }

    fn document<'a>(&self, paths: &[String], branches: Vec<&'a Conversation>) -> Document<'a> {
        let rows = |path: &String| self.rows[self.index[path]]..self.rows[self.index[path] + 1];
        Document {
            branches,
            image_rows: paths.iter().flat_map(rows).collect(),
        }
    }

    fn documents<'a>(
        &self,
        pair: &Pair,
        (chosen, rejected): &'a (Conversation, Conversation),
    ) -> Vec<Document<'a>> {
        if pair.chosen_images == pair.rejected_images {
            vec![self.document(&pair.chosen_images, vec![chosen, rejected])]
        } else {
            vec![
                self.document(&pair.chosen_images, vec![chosen]),
                self.document(&pair.rejected_images, vec![rejected]),
            ]
        }
    }

    fn inputs(self, documents: &[Document]) -> Result<Inputs> {
        let rows: Vec<Vec<&Document>> = documents.iter().map(|document| vec![document]).collect();
        Ok(Inputs {
            forest: Forest::new(&rows)?,
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
