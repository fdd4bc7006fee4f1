//! The vision graph: pictures, or the white one in their place → image embeddings.

use std::sync::OnceLock;

use seeward_models::bundle::{Bundle, VISION_GRAPH};
use seeward_models::contract::vision_contract;
use seeward_models::image::{Rgb, Tiles, tiles};

use crate::graph::{Graph, Inputs};
use crate::images::{Decoder, Embeddings, Encoded, Gallery, bad_image};
use crate::prepared::Pictures;
use crate::{Error, Options, Request, Result, Usage};

/// The vision graph with what it is fed by.
pub(crate) struct Vision {
    pub(crate) graph: Graph,
    decoder: Decoder,
    tokens_per_tile: usize,
    width: usize,
    /// The embeddings of the white picture, once they have been needed.
    white: OnceLock<Vec<f32>>,
}

/// What the requests of a call show: pictures to encode, and for each request where its own will be.
pub(crate) struct Shown {
    pub(crate) pictures: Pictures,
    pub(crate) images: Vec<Result<Vec<Encoded>>>,
}

impl Vision {
    /// Opens the bundle's vision graph, if it has one.
    pub(crate) fn open(bundle: &Bundle, options: &Options) -> Result<Option<Self>> {
        if bundle.vision_graph().is_none() {
            return Ok(None);
        }
        let manifest = bundle.manifest();
        let (tokens_per_tile, width) = (manifest.prompt.tokens_per_tile, manifest.hidden_size);
        let side = manifest.tiles.image_size as usize;
        let contract = vision_contract(side, tokens_per_tile, width);
        Ok(Some(Self {
            graph: Graph::open(VISION_GRAPH, bundle, &contract, options)?,
            decoder: Decoder {
                settings: manifest.tiles,
                max_pixels: options.max_image_pixels,
            },
            tokens_per_tile,
            width,
            white: OnceLock::new(),
        }))
    }

    /// One white tile for each of so many requests.
    pub(crate) fn white(&self, requests: usize) -> Shown {
        let white = Encoded {
            rows: 0..self.tokens_per_tile,
            tiles: 1,
        };
        Shown {
            pictures: Pictures::White,
            images: (0..requests).map(|_| Ok(vec![white.clone()])).collect(),
        }
    }

    /// The requests' own pictures, decoded and tiled.
    pub(crate) fn images(&self, requests: &[Request]) -> Shown {
        let gallery = Gallery::read(requests);
        let mut pictures = Vec::with_capacity(gallery.contents.len());
        let mut rows = 0;
        let mut place = |tiles: Tiles| {
            let start = rows;
            rows += tiles.count * self.tokens_per_tile;
            let encoded = Encoded {
                rows: start..rows,
                tiles: tiles.count,
            };
            pictures.push(tiles);
            encoded
        };
        let decoded = self.decoder.all(&gallery.contents).into_iter();
        let places: Vec<_> = decoded.map(|tiles| tiles.map(&mut place)).collect();
        let shown = requests.iter().zip(gallery.shown);
        let images = shown.map(|(request, shown)| pick(request, &shown?, &places));
        Shown {
            images: images.collect(),
            pictures: Pictures::Own(pictures),
        }
    }

    /// Runs the graph. A picture is never computed together with another: so its embeddings are the same bits in every call.
    pub(crate) fn encode(&self, pictures: Pictures, usage: &mut Usage) -> Result<Embeddings> {
        let mut embeddings = Embeddings::new(self.width);
        match pictures {
            Pictures::White => embeddings.push(self.white_tile(usage)?),
            Pictures::Own(pictures) => {
                for tiles in pictures {
                    embeddings.push(&self.run(&tiles, usage)?);
                }
            }
        }
        Ok(embeddings)
    }

    fn white_tile(&self, usage: &mut Usage) -> Result<&[f32]> {
        if let Some(white) = self.white.get() {
            return Ok(white);
        }
        let settings = self.decoder.settings.one_tile();
        let tile = tiles(&Rgb::white(), &settings).map_err(Error::Bundle)?;
        let values = self.run(&tile, usage)?;
        Ok(self.white.get_or_init(|| values))
    }

    fn run(&self, tiles: &Tiles, usage: &mut Usage) -> Result<Vec<f32>> {
        let side = tiles.size as usize;
        let inputs = Inputs::default().with([tiles.count, side, side, 3], &tiles.pixels);
        let (values, seconds) = self.graph.run(inputs)?;
        usage.engine += seconds;
        usage.images_encoded += 1;
        usage.tiles += tiles.count as u64;
        let expected = tiles.count * self.tokens_per_tile * self.width;
        if values.len() != expected {
            let problem = format!("expected {expected} numbers, got {}", values.len());
            return Err(self.graph.error(problem));
        }
        Ok(values)
    }
}

/// The request's pictures among those to encode.
fn pick(
    request: &Request,
    shown: &[usize],
    places: &[Result<Encoded, String>],
) -> Result<Vec<Encoded>> {
    let images = request.images.iter().zip(shown).enumerate();
    let encoded = images.map(|(index, (image, &picture))| match &places[picture] {
        Ok(encoded) => Ok(encoded.clone()),
        Err(problem) => Err(bad_image(image, index, problem.clone())),
    });
    encoded.collect()
}
