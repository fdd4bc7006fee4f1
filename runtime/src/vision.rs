//! The vision graph: pictures, or the white one in their place → image embeddings.

use std::sync::OnceLock;

use seeward_models::bundle::{Bundle, VISION_GRAPH, vision_contract};
use seeward_models::image::{Rgb, Tiles, tiles};

use crate::graph::{Graph, Inputs};
use crate::images::{Content, Decoder, Embeddings, Encoded, Gallery, bad_image};
use crate::{Error, Options, Request, Result, Usage, library};

/// The vision graph with what it is fed by.
pub(crate) struct Vision {
    graph: Graph,
    decoder: Decoder,
    tokens_per_tile: usize,
    width: usize,
    /// The embeddings of the white picture, once they have been needed.
    white: OnceLock<Vec<f32>>,
}

/// What the requests of a call show: embeddings, and for each request its pictures among them.
pub(crate) struct Shown {
    pub(crate) embeddings: Embeddings,
    pub(crate) images: Vec<Result<Vec<Encoded>>>,
}

impl Vision {
    /// Opens the bundle's vision graph, if it has one.
    pub(crate) fn open(bundle: &Bundle, options: &Options) -> Result<Option<Self>> {
        let Some(path) = bundle.vision_graph() else {
            return Ok(None);
        };
        let manifest = bundle.manifest();
        let (tokens_per_tile, width) = (manifest.prompt.tokens_per_tile, manifest.hidden_size);
        let side = manifest.tiles.image_size as usize;
        let contract = vision_contract(side, tokens_per_tile, width);
        let environment = library::environment(options.library.as_deref())?;
        Ok(Some(Self {
            graph: Graph::open(VISION_GRAPH, &path, &contract, &environment, options)?,
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
    pub(crate) fn white(&self, requests: usize, usage: &mut Usage) -> Result<Shown> {
        let mut embeddings = Embeddings::new(self.width);
        let white = embeddings.push(self.white_tile(usage)?, 1);
        Ok(Shown {
            embeddings,
            images: (0..requests).map(|_| Ok(vec![white.clone()])).collect(),
        })
    }

    fn white_tile(&self, usage: &mut Usage) -> Result<&[f32]> {
        if let Some(white) = self.white.get() {
            return Ok(white);
        }
        let settings = self.decoder.settings.one_tile();
        let tile = tiles(&Rgb::white(), &settings).map_err(Error::Bundle)?;
        let values = self.encode(&tile, usage)?;
        Ok(self.white.get_or_init(|| values))
    }

    /// The requests' own pictures.
    pub(crate) fn images(&self, requests: &[Request], usage: &mut Usage) -> Result<Shown> {
        let gallery = Gallery::read(requests);
        let mut embeddings = Embeddings::new(self.width);
        let pictures = self.encode_all(&gallery.contents, &mut embeddings, usage)?;
        let images = requests
            .iter()
            .zip(gallery.shown)
            .map(|(request, shown)| pick(request, &shown?, &pictures))
            .collect();
        Ok(Shown { embeddings, images })
    }

    /// Encodes pictures, or says what is wrong with each.
    fn encode_all(
        &self,
        contents: &[Content],
        embeddings: &mut Embeddings,
        usage: &mut Usage,
    ) -> Result<Vec<Result<Encoded, String>>> {
        let mut pictures = Vec::with_capacity(contents.len());
        // Pixels take more memory than what is kept of them: only some pictures are decoded at a time.
        for some in contents.chunks(2 * rayon::current_num_threads()) {
            for tiles in self.decoder.all(some) {
                let encoded = tiles.map(|tiles| (self.encode(&tiles, usage), tiles.count));
                pictures.push(match encoded {
                    Ok((values, count)) => Ok(embeddings.push(&values?, count)),
                    Err(problem) => Err(problem),
                });
            }
        }
        Ok(pictures)
    }

    /// One run of the graph: a picture is never computed together with another.
    fn encode(&self, tiles: &Tiles, usage: &mut Usage) -> Result<Vec<f32>> {
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

/// The request's pictures among the encoded ones.
fn pick(
    request: &Request,
    shown: &[usize],
    pictures: &[Result<Encoded, String>],
) -> Result<Vec<Encoded>> {
    let images = request.images.iter().zip(shown).enumerate();
    let encoded = images.map(|(index, (image, &picture))| match &pictures[picture] {
        Ok(encoded) => Ok(encoded.clone()),
        Err(problem) => Err(bad_image(image, index, problem.clone())),
    });
    encoded.collect()
}
