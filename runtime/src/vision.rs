//! The vision graph: images, or the white one instead of them → image embeddings.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use seeward_models::bundle::{Bundle, VISION_GRAPH};
use seeward_models::contract::vision_contract;
use seeward_models::image::{Extent, Grid, GridPlaces, GridSettings, ImageSettings, Pixels};

use crate::cache::{Encoded, EncodedImage, ImageCache};
use crate::graph::{Graph, Inputs};
use crate::images::{Decoder, ImageError, ImageSet, ImageSource, image_error};
use crate::{Error, Options, Request, Result, Usage};

/// The images of a call, ready for the graph.
pub(crate) struct VisionInputs {
    pub(crate) batch: VisionBatch,
    /// For each request the places of its images among the embeddings, or why it cannot be scored.
    pub(crate) requests: Vec<Result<Vec<ImageRows>>>,
}

/// Images that the graph encodes.
pub(crate) enum VisionBatch {
    /// The white image.
    White,
    /// The requests' own.
    Images(Vec<VisionImage>),
}

/// A distinct image of the requests.
pub(crate) enum VisionImage {
    /// To be encoded. With its key, if there is a cache.
    Pixels(Pixels, Option<String>),
    /// Found in the cache.
    Encoded(Encoded),
}

impl VisionImage {
    fn extent(&self) -> Extent {
        match self {
            Self::Pixels(pixels, _) => pixels.extent(),
            Self::Encoded(encoded) => encoded.extent,
        }
    }
}

/// The place of an image among the embeddings. Equal images of a call have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ImageRows {
    pub(crate) rows: Range<usize>,
    pub(crate) extent: Extent,
}

/// Embeddings of a call's images, one after the other: `[rows, width]`.
pub(crate) struct Embeddings(Array2<f32>);

impl Embeddings {
    /// No embeddings.
    pub(crate) fn none(width: usize) -> Self {
        Self(Array2::zeros((0, width)))
    }

    /// The rows with these indices. Those of an image follow each other and are copied at once.
    pub(crate) fn gather(&self, rows: &[i64]) -> Array2<f32> {
        let mut gathered = Array2::zeros((rows.len(), self.0.ncols()));
        let mut done = 0;
        for run in rows.chunk_by(|row, next| row + 1 == *next) {
            let (first, count) = (run[0] as usize, run.len());
            let rows = self.0.slice(s![first..first + count, ..]);
            gathered.slice_mut(s![done..done + count, ..]).assign(&rows);
            done += count;
        }
        gathered
    }
}

/// The vision graph and the settings of its inputs.
pub(crate) struct Vision {
    pub(crate) graph: Graph,
    decoder: Decoder,
    tokens_per_tile: usize,
    width: usize,
    pub(crate) cache: Option<ImageCache>,
    /// The embeddings of the white image, once they have been needed.
    white: OnceLock<Array2<f32>>,
}

impl Vision {
    /// Opens the bundle's vision graph, if it has one.
    pub(crate) fn open(bundle: &Bundle, options: &Options) -> Result<Option<Self>> {
        if bundle.vision_graph().is_none() {
            return Ok(None);
        }
        let manifest = bundle.manifest();
        let (tokens_per_tile, width) = (manifest.prompt.tokens_per_tile, manifest.image_width);
        let contract = vision_contract(&manifest.images, tokens_per_tile, width);
        Ok(Some(Self {
            graph: Graph::open(VISION_GRAPH, bundle, &contract, options)?,
            decoder: Decoder {
                transparency: manifest.transparency,
                settings: manifest.images,
                max_pixels: options.max_image_pixels,
            },
            tokens_per_tile,
            width,
            cache: ImageCache::new(options.image_cache_bytes),
            white: OnceLock::new(),
        }))
    }

    /// One white image for each request.
    pub(crate) fn white(&self, requests: usize) -> VisionInputs {
        let white = || -> Result<Vec<ImageRows>> {
            let extent = self.decoder.settings.white_extent();
            let extent = extent.map_err(Error::Bundle)?;
            Ok(vec![ImageRows {
                rows: 0..self.rows(extent),
                extent,
            }])
        };
        VisionInputs {
            batch: VisionBatch::White,
            requests: (0..requests).map(|_| white()).collect(),
        }
    }

    /// Rows of the embeddings of an image.
    fn rows(&self, extent: Extent) -> usize {
        extent.units() * self.tokens_per_tile
    }

    /// The requests' own images, decoded and cut.
    pub(crate) fn images(&self, requests: &[Request]) -> VisionInputs {
        let set = ImageSet::read(requests);
        let mut batch = Vec::with_capacity(set.sources.len());
        let mut end = 0;
        let mut place = |image: VisionImage| {
            let (start, extent) = (end, image.extent());
            end += self.rows(extent);
            batch.push(image);
            ImageRows {
                rows: start..end,
                extent,
            }
        };
        let images: Vec<_> = set.sources.par_iter().map(|s| self.image(s)).collect();
        let images = images.into_iter();
        let places: Vec<_> = images.map(|image| image.map(&mut place)).collect();
        let placed = requests.iter().zip(set.requests);
        let placed = placed.map(|(request, indices)| pick(request, &indices?, &places));
        VisionInputs {
            requests: placed.collect(),
            batch: VisionBatch::Images(batch),
        }
    }

    fn image(&self, source: &ImageSource) -> Result<VisionImage, ImageError> {
        let key = self.cache.as_ref().map(|_| source.key());
        let cached = |key: &String| self.cache.as_ref()?.get(key);
        if let Some(encoded) = key.as_ref().and_then(cached) {
            return Ok(VisionImage::Encoded(encoded));
        }
        let pixels = self.decoder.decode(source).map_err(Arc::new)?;
        Ok(VisionImage::Pixels(pixels, key))
    }

    /// Runs the graph. An image is never computed together with another: so its embeddings are the same bits in every call.
    pub(crate) fn encode(&self, batch: VisionBatch, usage: &mut Usage) -> Result<Embeddings> {
        let images = match batch {
            VisionBatch::White => return Ok(Embeddings(self.white_image(usage)?.to_owned())),
            VisionBatch::Images(images) => images,
        };
        let mut embeddings = Array2::zeros((0, self.width));
        for image in images {
            let of_image = self.encode_one(image, usage)?;
            let appended = embeddings.append(Axis(0), of_image.rows.view());
            appended.map_err(|e| self.graph.error(e.to_string()))?;
        }
        Ok(Embeddings(embeddings))
    }

    fn encode_one(&self, image: VisionImage, usage: &mut Usage) -> Result<Encoded> {
        let encoded_before = usage.images_encoded;
        let tiles = image.extent().tiles() as u64;
        let encoded = match (image, &self.cache) {
            (VisionImage::Encoded(encoded), _) => encoded,
            (VisionImage::Pixels(pixels, Some(key)), Some(cache)) => {
                cache.get_or_encode(&key, || self.encoded(&pixels, usage))?
            }
            (VisionImage::Pixels(pixels, _), _) => Arc::new(self.encoded(&pixels, usage)?),
        };
        if usage.images_encoded == encoded_before {
            usage.images_cached += 1;
            usage.tiles_cached += tiles;
        }
        Ok(encoded)
    }

    fn encoded(&self, pixels: &Pixels, usage: &mut Usage) -> Result<EncodedImage> {
        Ok(EncodedImage {
            extent: pixels.extent(),
            rows: self.run(pixels, usage)?,
        })
    }

    fn white_image(&self, usage: &mut Usage) -> Result<ArrayView2<'_, f32>> {
        if let Some(white) = self.white.get() {
            return Ok(white.view());
        }
        let white = self.decoder.settings.white().map_err(Error::Bundle)?;
        let embeddings = self.run(&white, usage)?;
        Ok(self.white.get_or_init(|| embeddings).view())
    }

    /// The embeddings of one image.
    fn run(&self, pixels: &Pixels, usage: &mut Usage) -> Result<Array2<f32>> {
        let (values, seconds) = match (pixels, &self.decoder.settings) {
            (Pixels::Tiles(tiles), _) => self.graph.run(Inputs::default().with(tiles.view()))?,
            (Pixels::Grid(grid), ImageSettings::Grid(settings)) => self.run_grid(grid, settings)?,
            _ => return Err(self.graph.error("expected tiles".to_owned())),
        };
        let extent = pixels.extent();
        usage.engine += seconds;
        usage.vision += seconds;
        usage.images_encoded += 1;
        usage.tiles += extent.tiles() as u64;
        let (rows, count) = (self.rows(extent), values.len());
        Array2::from_shape_vec((rows, self.width), values).map_err(|_| {
            let expected = rows * self.width;
            let problem = format!("expected {expected} values, got {count}");
            self.graph.error(problem)
        })
    }

    /// Runs the graph on a whole image.
    fn run_grid(&self, grid: &Grid, settings: &GridSettings) -> Result<(Vec<f32>, Duration)> {
        let places = GridPlaces::new(settings, grid.rows, grid.columns);
        let mut inputs = Inputs::default()
            .with(grid.patches.view())
            .with(places.position_ids.view())
            .with(places.rope_cos.view())
            .with(places.rope_sin.view());
        if let Some(windows) = &places.window_ids {
            inputs = inputs.with(windows.view());
        }
        if let Some(taps) = &places.taps {
            inputs = inputs.with(taps.rows.view()).with(taps.weights.view());
        }
        self.graph.run(inputs)
    }
}

/// The places of a request's images.
fn pick(
    request: &Request,
    indices: &[usize],
    places: &[Result<ImageRows, ImageError>],
) -> Result<Vec<ImageRows>> {
    let images = request.images.iter().zip(indices).enumerate();
    let places = images.map(|(place, (image, &index))| match &places[index] {
        Ok(rows) => Ok(rows.clone()),
        Err(error) => Err(image_error(image, place, error.clone())),
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_gathered_by_row() {
        let embeddings = Embeddings(ndarray::array![[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]);
        let expected = ndarray::array![[4.0, 5.0], [0.0, 1.0]];
        assert_eq!(embeddings.gather(&[2, 0]), expected);
        let expected = ndarray::array![[2.0, 3.0], [4.0, 5.0], [0.0, 1.0], [0.0, 1.0]];
        assert_eq!(embeddings.gather(&[1, 2, 0, 0]), expected);
        assert_eq!(Embeddings::none(2).gather(&[]).dim(), (0, 2));
    }
}
