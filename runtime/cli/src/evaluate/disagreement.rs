//! The pairs that two models judge most differently; with a single model, its worst pairs.

use std::fs;

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;
use image::{ExtendedColorType, RgbImage};
use seeward_models::image::decode;
use seeward_models::sample::{ImageRef, Pair};
use serde::Serialize;

use super::arguments::{Job, PreferenceFile};
use super::dataset::Comparison;
use super::judged::Judged;
use super::metrics::calibration::sigmoid;
use super::roles::other;

/// Number of pairs in the report.
const SHOWN: usize = 20;
/// Longest side of an image in the report, in pixels.
const SIDE: u32 = 320;
const QUALITY: u8 = 82;

/// A pair with the margins of the models.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Disagreement {
    pub(super) set: String,
    pub(super) line: u64,
    pub(super) prompt: String,
    pub(super) chosen: String,
    pub(super) rejected: String,
    pub(super) images: Vec<String>,
    /// The model's margin.
    pub(super) margin: f64,
    /// The margin of the compared model, else of the text-only one.
    pub(super) other_margin: Option<f64>,
    /// The difference of the two preference probabilities σ(margin); with a single model, its difference from 1.
    pub(super) distance: f64,
    /// Thumbnails of the images as JPEG files; `None` for an image that cannot be read.
    #[serde(skip)]
    pub(super) thumbnails: Vec<Option<Vec<u8>>>,
}

/// The indices of a pair's set and comparison.
struct Found {
    set: usize,
    comparison: usize,
    distance: f64,
}

/// The largest disagreements of all sets, in descending order.
///
/// # Errors
/// A set has changed since it was read.
pub(super) fn largest(sets: &[Judged], roles: &[&str], job: &Job) -> Result<Vec<Disagreement>> {
    let other = other(roles);
    let mut found: Vec<Found> = sets
        .iter()
        .enumerate()
        .flat_map(|(at, set)| find(at, set, other))
        .collect();
    found.sort_by(|a, b| b.distance.total_cmp(&a.distance));
    found.truncate(SHOWN);
    let mut shown = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let of_set: Vec<&Found> = found.iter().filter(|found| found.set == index).collect();
        let comparisons: Vec<&Comparison> = of_set
            .iter()
            .map(|found| set.comparisons[found.comparison])
            .collect();
        for (found, pair) in of_set.iter().zip(set.set.pairs(&comparisons)?) {
            shown.push(found.show(set, pair, other, &job.files[index], job));
        }
    }
    shown.sort_by(|a, b| b.distance.total_cmp(&a.distance));
    Ok(shown)
}

fn find(index: usize, set: &Judged, other: Option<usize>) -> Vec<Found> {
    let distance = |at: usize| {
        let second = other.map_or(1.0, |other| sigmoid(set.margins[other][at]));
        (sigmoid(set.margins[0][at]) - second).abs()
    };
    let found = |at| Found {
        set: index,
        comparison: at,
        distance: distance(at),
    };
    (0..set.comparisons.len()).map(found).collect()
}

impl Found {
    fn show(
        &self,
        set: &Judged,
        pair: Pair,
        other: Option<usize>,
        file: &PreferenceFile,
        job: &Job,
    ) -> Disagreement {
        let mut images = pair.chosen_images;
        if pair.rejected_images != images {
            images.extend(pair.rejected_images);
        }
        let thumbnail = |image: &ImageRef| small(image, file, job.engine.max_image_pixels);
        Disagreement {
            set: set.set.name.clone(),
            line: set.comparisons[self.comparison].line,
            thumbnails: images.iter().map(thumbnail).collect(),
            images: images.iter().map(ToString::to_string).collect(),
            prompt: pair.prompt.to_string(),
            chosen: pair.chosen,
            rejected: pair.rejected,
            margin: set.margins[0][self.comparison],
            other_margin: other.map(|other| set.margins[other][self.comparison]),
            distance: self.distance,
        }
    }
}

/// A thumbnail of an image as a JPEG file. A missing image is no error: text-only models need none.
fn small(image: &ImageRef, file: &PreferenceFile, max_pixels: u64) -> Option<Vec<u8>> {
    let bytes = match image {
        ImageRef::File(path) => fs::read(file.images.resolve(path).ok()?).ok()?,
        ImageRef::Bytes(bytes) => bytes.to_vec(),
    };
    let image = decode(&bytes, max_pixels).ok()?;
    let (width, height) = (image.width(), image.height());
    let image = RgbImage::from_raw(width, height, image.pixels().to_vec())?;
    let scale = f64::from(SIDE) / f64::from(width.max(height));
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let small = if scale < 1.0 {
        thumbnail(&image, side(width), side(height))
    } else {
        image
    };
    let mut jpeg = Vec::new();
    let encoder = &mut JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    let encoded = encoder.encode(
        &small,
        small.width(),
        small.height(),
        ExtendedColorType::Rgb8,
    );
    encoded.ok().map(|()| jpeg)
}
