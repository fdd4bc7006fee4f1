//! Estimated lengths of rows, by which `group_by_length` groups them.

use anyhow::Result;
use rayon::prelude::*;
use seeward_models::sample::ImageRef;

use crate::data::preprocess::Preprocessor;
use crate::data::rows::{Rows, Samples};
use crate::progress::PatientBar;

/// Number of rows that are read at once.
const CHUNK: usize = 4096;
/// Approximate number of text bytes per token.
const BYTES_PER_TOKEN: usize = 4;

/// Estimates the length in tokens of every row: texts by their number of bytes, images by their headers. An image
/// without a readable header counts as 0.
///
/// # Errors
/// The file of the rows cannot be read.
pub(crate) fn estimate(rows: &Rows, preprocessor: &Preprocessor) -> Result<Vec<u32>> {
    let bar = PatientBar::new("lengths", rows.count() as u64);
    let mut lengths = Vec::with_capacity(rows.count());
    let numbers: Vec<usize> = (0..rows.count()).collect();
    for chunk in numbers.chunks(CHUNK) {
        match rows.read(chunk)? {
            Samples::Pairs(pairs) => lengths.par_extend(pairs.par_iter().map(|row| {
                let pair = &row.sample;
                let text = pair.prompt.bytes() + pair.chosen.len() + pair.rejected.len();
                let shared = pair.chosen_images == pair.rejected_images;
                let rejected: &[ImageRef] = if shared { &[] } else { &pair.rejected_images };
                length(preprocessor, text, &pair.chosen_images) + images(preprocessor, rejected)
            })),
            Samples::Sft(rows) => lengths.par_extend(rows.par_iter().map(|row| {
                let sample = &row.sample;
                let text = sample.prompt.bytes() + sample.response.len();
                length(preprocessor, text, &sample.images)
            })),
        }
        bar.at(lengths.len() as u64);
    }
    Ok(lengths)
}

fn length(preprocessor: &Preprocessor, bytes: usize, paths: &[ImageRef]) -> u32 {
    (bytes / BYTES_PER_TOKEN) as u32 + images(preprocessor, paths)
}

fn images(preprocessor: &Preprocessor, paths: &[ImageRef]) -> u32 {
    let tokens = |path| {
        let extent = preprocessor.extent(path);
        extent.map_or(0, |extent| preprocessor.image_tokens(extent))
    };
    let tokens: usize = preprocessor.seen(paths).into_iter().map(tokens).sum();
    tokens as u32
}
