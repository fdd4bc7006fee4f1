//! What a run would train on, found out without training: rows, images by their headers, tokens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;
use seeward_models::forest::Document;
use seeward_models::prompt::Conversation;
use serde::Serialize;

use crate::config::Config;
use crate::data::flops::{self, Workload};
use crate::data::preprocess::Preprocessor;
use crate::data::rows::{Read, Row, Samples};
use crate::data::sampler::Sampler;
use crate::dry_run::batch_shape::{Largest, RowShape};
use crate::dry_run::preflight::{Memory, Preflight};
use crate::model::branches::Branches;
use crate::progress::PatientBar;

/// Rows that are looked at together.
const CHUNK: usize = 1024;

/// What `--dry-run` prints.
#[derive(Debug, Serialize)]
pub struct Survey {
    #[serde(flatten)]
    training: Contents,
    /// The share of the main branch's work that sharing saves in pairs, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    work_saved: Option<f64>,
    memory: Memory,
    steps_per_epoch: usize,
    total_steps: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    eval_data: BTreeMap<String, Contents>,
    /// What is wrong, each with its place.
    #[serde(skip)]
    pub problems: Vec<String>,
}

/// What is in one file of rows.
#[derive(Debug, Default, Serialize)]
struct Contents {
    /// Lines that are not blank.
    rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<usize>,
    ties_dropped: usize,
    non_numeric_dropped: usize,
    unreadable_rows: usize,
    /// Different image files.
    images: usize,
    missing_images: usize,
    unreadable_images: usize,
    /// Pairs or responses that cannot be made into tokens, though their images are fine.
    refused: usize,
    /// Of one image.
    tiles: Spread,
    /// Of one conversation, as the network reads it: after the cut at max_length.
    tokens: Spread,
    /// Conversations that max_length cut.
    truncated: usize,
    #[serde(skip)]
    load: Workload,
    /// Of one row each.
    #[serde(skip)]
    largest: Largest,
}

/// How large things are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Spread {
    p50: usize,
    p95: usize,
    max: usize,
}

impl Survey {
    /// Looks at everything that `config` names but the weights.
    ///
    /// # Errors
    /// A file that cannot be read at all; what is wrong with a row or an image is a problem of the survey.
    pub fn of(config: &Config) -> Result<Self> {
        let preflight = Preflight::of(config)?;
        let preprocessors = &preflight.preprocessors;
        let mut problems = Vec::new();
        let mut contents = |path: &str| -> Result<Contents> {
            let read = Read::open(config, Path::new(path))?;
            let mut surveyor = Surveyor::new(preprocessors);
            let contents = surveyor.file(&read)?;
            problems.append(&mut surveyor.problems);
            Ok(contents)
        };
        let training = contents(&config.dataset_path)?;
        let sets = config.eval_data.iter();
        let eval_data = sets
            .map(|(name, path)| Ok((name.clone(), contents(path)?)))
            .collect::<Result<_>>()?;
        let count = training.pairs.or(training.responses).unwrap_or(0);
        let sampler = Sampler::new(config, count)?;
        let batch = config.per_device_train_batch_size.min(count);
        let work_saved = flops::work_saved(&[(preflight.costs, training.load)]);
        Ok(Self {
            work_saved: work_saved.filter(|_| training.pairs.is_some()),
            memory: preflight.memory(&training.largest.of_batch(batch, preprocessors)),
            training,
            steps_per_epoch: sampler.steps_per_epoch,
            total_steps: sampler.total_steps,
            eval_data,
            problems,
        })
    }
}

/// Of one file, what was seen so far.
struct Surveyor<'a> {
    preprocessor: &'a Preprocessor,
    /// Tokens of a tile that the text-only branch sees, if there is one.
    white: Option<usize>,
    /// Every different image.
    images: HashMap<String, Measured>,
    /// Of every conversation.
    lengths: Vec<u32>,
    truncated: usize,
    refused: usize,
    load: Workload,
    largest: Largest,
    problems: Vec<String>,
}

impl<'a> Surveyor<'a> {
    fn new(preprocessors: &'a Branches<Preprocessor>) -> Self {
        let tokens_per_tile =
            |preprocessor: &Preprocessor| preprocessor.prompter.settings().tokens_per_tile;
        Self {
            preprocessor: &preprocessors.main,
            white: preprocessors.text.as_ref().map(tokens_per_tile),
            images: HashMap::new(),
            lengths: Vec::new(),
            truncated: 0,
            refused: 0,
            load: Workload::default(),
            largest: Largest::default(),
            problems: Vec::new(),
        }
    }

    /// Looks at some rows at a time, so that memory grows with the number of images alone.
    fn file(&mut self, read: &Read) -> Result<Contents> {
        self.problems
            .extend(read.unreadable.iter().map(ToString::to_string));
        let count = read.rows.count();
        let bar = PatientBar::new("survey", count as u64);
        for first in (0..count).step_by(CHUNK) {
            let numbers: Vec<usize> = (first..count.min(first + CHUNK)).collect();
            let samples = read.rows.read(&numbers)?;
            let said = said(&samples);
            self.measure(&said);
            self.tokenise(&said);
            bar.at((first + numbers.len()) as u64);
        }
        Ok(self.contents(read))
    }

    /// Measures the images that were not met before.
    fn measure(&mut self, said: &[Said]) {
        let (mut met, mut new) = (HashSet::new(), Vec::new());
        for row in said {
            for path in row
                .sides
                .iter()
                .flat_map(|(_, images)| self.preprocessor.seen(images))
            {
                if !self.images.contains_key(path) && met.insert(path) {
                    new.push((path, &row.place));
                }
            }
        }
        let measured = new
            .par_iter()
            .map(|(path, _)| Measured::of(self.preprocessor, path));
        let measured: Vec<Measured> = measured.collect();
        for ((path, place), image) in new.into_iter().zip(measured) {
            let problem = image.problem();
            self.problems
                .extend(problem.map(|problem| format!("{place}: {problem}")));
            self.images.insert(path.to_owned(), image);
        }
    }

    fn tokenise(&mut self, said: &[Said]) {
        let conversations = said
            .par_iter()
            .map(|row| row.tokenise(self.preprocessor, &self.images));
        let conversations: Vec<_> = conversations.collect();
        for (row, result) in said.iter().zip(conversations) {
            match result {
                None => {}
                Some(Ok(sides)) => {
                    let (load, size) = row.size(self.preprocessor, &self.images, &sides);
                    self.load = self.load + load;
                    self.largest
                        .add(size, self.preprocessor, self.white.unwrap_or(0));
                    self.truncated += sides.iter().filter(|side| side.truncated).count();
                    self.lengths
                        .extend(sides.iter().map(|side| side.ids.len() as u32));
                }
                Some(Err(e)) => {
                    self.refused += 1;
                    self.problems.push(format!("{}: {e}", row.place));
                }
            }
        }
    }

    fn contents(&mut self, read: &Read) -> Contents {
        let count = Some(read.rows.count());
        let is = |wanted: fn(&Measured) -> bool| self.images.values().filter(|i| wanted(i)).count();
        let tiles = self.images.values().filter_map(Measured::tiles);
        Contents {
            rows: read.lines,
            pairs: count.filter(|_| read.rows.are_pairs()),
            responses: count.filter(|_| !read.rows.are_pairs()),
            ties_dropped: read.ties_dropped,
            non_numeric_dropped: read.non_numeric_dropped,
            unreadable_rows: read.unreadable.len(),
            images: self.images.len(),
            missing_images: is(|image| matches!(image, Measured::Missing(_))),
            unreadable_images: is(|image| matches!(image, Measured::Unreadable(_))),
            refused: self.refused,
            tiles: Spread::of(tiles.map(|tiles| tiles as u32).collect()),
            tokens: Spread::of(std::mem::take(&mut self.lengths)),
            truncated: self.truncated,
            load: self.load,
            largest: self.largest,
        }
    }
}

/// An image's number of tiles, or why it has none.
enum Measured {
    Tiles(usize),
    Missing(String),
    Unreadable(String),
}

impl Measured {
    fn of(preprocessor: &Preprocessor, path: &str) -> Self {
        match preprocessor.tile_count(path) {
            Ok(tiles) => Self::Tiles(tiles),
            Err(e) if Path::new(path).exists() => Self::Unreadable(e.to_string()),
            Err(e) => Self::Missing(e.to_string()),
        }
    }

    fn tiles(&self) -> Option<usize> {
        match self {
            Self::Tiles(count) => Some(*count),
            _ => None,
        }
    }

    fn problem(&self) -> Option<&str> {
        match self {
            Self::Tiles(_) => None,
            Self::Missing(problem) | Self::Unreadable(problem) => Some(problem),
        }
    }
}

impl Spread {
    /// Percentiles by nearest rank.
    fn of(mut sizes: Vec<u32>) -> Self {
        sizes.sort_unstable();
        let at = |percent: usize| {
            let rank = (sizes.len() * percent).div_ceil(100);
            sizes.get(rank.saturating_sub(1)).copied().unwrap_or(0) as usize
        };
        Self {
            p50: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

/// What one pair or response says.
struct Said<'a> {
    place: String,
    prompt: &'a str,
    /// A response and the images seen with it.
    sides: Vec<(&'a str, &'a [String])>,
}

impl<'a> Said<'a> {
    fn new<T>(row: &'a Row<T>, prompt: &'a str, sides: Vec<(&'a str, &'a [String])>) -> Self {
        Self {
            place: row.place(),
            prompt,
            sides,
        }
    }

    /// Its conversations; `None` where one of its images is at fault.
    fn tokenise(
        &self,
        preprocessor: &Preprocessor,
        images: &HashMap<String, Measured>,
    ) -> Option<seeward_models::Result<Vec<Conversation>>> {
        let tiles = |path: &str| images[path].tiles();
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

impl Said<'_> {
    /// What its conversations come to where both sides of a pair see the same images, and so share what they can.
    fn size(
        &self,
        preprocessor: &Preprocessor,
        images: &HashMap<String, Measured>,
        sides: &[Conversation],
    ) -> (Workload, RowShape) {
        let tiles = |(_, seen): &(&str, &[String])| -> usize {
            let seen = preprocessor.seen(seen).into_iter();
            seen.filter_map(|path| images[path].tiles()).sum()
        };
        let tiles: Vec<usize> = self.sides.iter().map(tiles).collect();
        let lengths = || sides.iter().map(|side| side.ids.len());
        let (tokens_unshared, tiles_unshared) = (lengths().sum(), tiles.iter().sum());
        let is_shared =
            preprocessor.shared && self.sides.iter().all(|(_, seen)| *seen == self.sides[0].1);
        let document = Document {
            branches: sides.iter().collect(),
            image_rows: Vec::new(),
        };
        let (documents, tokens) = match is_shared {
            true => (1, document.tokens()),
            false => (sides.len(), lengths().max().unwrap_or(0)),
        };
        let load = Workload {
            tokens: if is_shared { tokens } else { tokens_unshared },
            tiles: if is_shared { tiles[0] } else { tiles_unshared },
            padding: 0,
            tokens_unshared,
            tiles_unshared,
        };
        let responses = sides
            .iter()
            .map(|side| side.ids.len() - side.response_start);
        let size = RowShape {
            documents,
            tokens,
            tiles: tiles.into_iter().max().unwrap_or(0),
            targets: responses.sum(),
        };
        (load, size)
    }
}

fn said(samples: &Samples) -> Vec<Said<'_>> {
    match samples {
        Samples::Pairs(rows) => rows
            .iter()
            .map(|row| {
                let pair = &row.sample;
                let chosen = (&*pair.chosen, &*pair.chosen_images);
                let rejected = (&*pair.rejected, &*pair.rejected_images);
                Said::new(row, &pair.prompt, vec![chosen, rejected])
            })
            .collect(),
        Samples::Sft(rows) => rows
            .iter()
            .map(|row| {
                let sample = &row.sample;
                let response = (&*sample.response, &*sample.images);
                Said::new(row, &sample.prompt, vec![response])
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_sizes_that_occur() {
        let spread = |p50, p95, max| Spread { p50, p95, max };
        assert_eq!(Spread::of((1..=100).rev().collect()), spread(50, 95, 100));
        assert_eq!(Spread::of(vec![3, 1]), spread(1, 3, 3));
        assert_eq!(Spread::of(vec![7]), spread(7, 7, 7));
        assert_eq!(Spread::of(Vec::new()), spread(0, 0, 0));
    }
}
