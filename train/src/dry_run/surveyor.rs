//! The survey of one file: reads all rows, the headers of their images, and counts.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use rayon::prelude::*;

use crate::data::flops::Workload;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::Samples;
use crate::data::scan::Scan;
use crate::dry_run::batch_shape::{Largest, WhiteImage};
use crate::dry_run::contents::{Contents, Spread};
use crate::dry_run::row::{Measured, RowTexts};
use crate::model::branches::Branches;
use crate::progress::PatientBar;

/// Number of rows that are read at once.
const CHUNK: usize = 1024;

/// The survey of one file, in progress.
pub(super) struct Surveyor<'a> {
    preprocessor: &'a Preprocessor,
    /// The white image of the text-only branch.
    white: WhiteImage,
    /// Distinct images by name.
    images: HashMap<String, Measured>,
    /// Tokens of every conversation.
    lengths: Vec<u32>,
    truncated: usize,
    refused: usize,
    load: Workload,
    largest: Largest,
    pub(super) problems: Vec<String>,
}

impl<'a> Surveyor<'a> {
    pub(super) fn new(preprocessors: &'a Branches<Preprocessor>) -> Self {
        let white = preprocessors.text.as_ref().map(white);
        Self {
            preprocessor: &preprocessors.main,
            white: white.unwrap_or_default(),
            images: HashMap::new(),
            lengths: Vec::new(),
            truncated: 0,
            refused: 0,
            load: Workload::default(),
            largest: Largest::default(),
            problems: Vec::new(),
        }
    }

    /// Surveys a file in chunks, so that memory grows only with the number of images and conversations.
    pub(super) fn file(&mut self, scan: &Scan) -> Result<Contents> {
        self.problems
            .extend(scan.unreadable.iter().map(ToString::to_string));
        let count = scan.rows.count();
        let bar = PatientBar::new("survey", count as u64);
        for first in (0..count).step_by(CHUNK) {
            let numbers: Vec<usize> = (first..count.min(first + CHUNK)).collect();
            let samples = scan.rows.read(&numbers)?;
            let texts = texts(&samples);
            self.measure(&texts);
            self.tokenise(&texts);
            bar.at((first + numbers.len()) as u64);
        }
        Ok(self.contents(scan))
    }

    /// Measures the images that are new.
    fn measure(&mut self, texts: &[RowTexts]) {
        let (mut known, mut new) = (HashSet::new(), Vec::new());
        for row in texts {
            let sides = row.sides.iter();
            for image in sides.flat_map(|(_, images)| self.preprocessor.seen(images)) {
                let name = image.name();
                if !self.images.contains_key(&*name) && known.insert(name) {
                    new.push((image, &row.place));
                }
            }
        }
        let measured = new
            .par_iter()
            .map(|(image, _)| Measured::of(self.preprocessor, image));
        let measured: Vec<Measured> = measured.collect();
        for ((image, place), measured) in new.into_iter().zip(measured) {
            let problem = measured.problem();
            self.problems
                .extend(problem.map(|problem| format!("{place}: {problem}")));
            self.images.insert(image.name().into_owned(), measured);
        }
    }

    fn tokenise(&mut self, texts: &[RowTexts]) {
        let conversations = texts
            .par_iter()
            .map(|row| row.tokenise(self.preprocessor, &self.images));
        let conversations: Vec<_> = conversations.collect();
        for (row, result) in texts.iter().zip(conversations) {
            match result {
                None => {}
                Some(Ok(sides)) => {
                    let (load, size) = row.size(self.preprocessor, &self.images, &sides);
                    self.load = self.load + load;
                    self.largest.add(size, self.preprocessor, self.white);
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

    fn contents(&mut self, scan: &Scan) -> Contents {
        let count = Some(scan.rows.count());
        let is = |wanted: fn(&Measured) -> bool| self.images.values().filter(|i| wanted(i)).count();
        let extents = self.images.values().filter_map(Measured::extent);
        Contents {
            rows: scan.lines,
            pairs: count.filter(|_| scan.rows.are_pairs()),
            responses: count.filter(|_| !scan.rows.are_pairs()),
            ties_dropped: scan.ties_dropped,
            non_numeric_dropped: scan.non_numeric_dropped,
            unreadable_rows: scan.unreadable.len(),
            images: self.images.len(),
            missing_images: is(|image| matches!(image, Measured::Missing(_))),
            unreadable_images: is(|image| matches!(image, Measured::Unreadable(_))),
            refused: self.refused,
            tiles: Spread::of(extents.map(|extent| extent.tiles() as u32).collect()),
            tokens: Spread::of(std::mem::take(&mut self.lengths)),
            truncated: self.truncated,
            load: self.load,
            largest: self.largest,
        }
    }
}

fn white(preprocessor: &Preprocessor) -> WhiteImage {
    let extent = preprocessor.settings.white_extent();
    extent.map_or(WhiteImage::default(), |extent| WhiteImage {
        units: extent.units(),
        tokens: preprocessor.image_tokens(extent),
    })
}

fn texts(samples: &Samples) -> Vec<RowTexts<'_>> {
    match samples {
        Samples::Pairs(rows) => rows
            .iter()
            .map(|row| {
                let pair = &row.sample;
                let chosen = (&*pair.chosen, &*pair.chosen_images);
                let rejected = (&*pair.rejected, &*pair.rejected_images);
                RowTexts::new(row, &pair.prompt, vec![chosen, rejected])
            })
            .collect(),
        Samples::Sft(rows) => rows
            .iter()
            .map(|row| {
                let sample = &row.sample;
                let response = (&*sample.response, &*sample.images);
                RowTexts::new(row, &sample.prompt, vec![response])
            })
            .collect(),
    }
}
