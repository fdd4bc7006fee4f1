//! How long a request will take, estimated before it is prepared: a batcher fills batches by it.

use std::hash::{DefaultHasher, Hash, Hasher};

use seeward_models::bundle::Manifest;
use seeward_models::image::{Extent, dimensions, file_dimensions};

use crate::{Image, Options, Request, Usage};

/// Bytes of text for a token: a guess, high for English and low for Chinese.
const BYTES_PER_TOKEN: usize = 4;
/// Bytes that a request takes in a queue besides its content.
const OVERHEAD: usize = 512;
/// The weight of earlier runs after another one.
const DECAY: f64 = 0.9;

/// The size of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Equal for requests with equal prompt and images.
    pub(crate) kin: u64,
    /// Bytes of its content.
    pub(crate) bytes: usize,
    /// Tiles of its images.
    tiles: usize,
    /// Tokens of prompt and images.
    shared_tokens: usize,
    /// Tokens of its responses.
    own_tokens: usize,
}

impl Load {
    /// Reads only headers of images. An image that cannot be read counts nothing: its request will fail quickly.
    pub(crate) fn of(request: &Request, manifest: &Manifest, options: &Options) -> Self {
        let responses: usize = request.responses.iter().map(String::len).sum();
        let extents = request.images.iter().filter_map(|image| {
            let (width, height) = sides(image, options.max_image_pixels)?;
            manifest.images.extent(width, height).ok()
        });
        let extents: Vec<Extent> = extents.collect();
        let tiles = extents.iter().map(|extent| extent.tiles()).sum();
        let units: usize = extents.iter().map(|extent| extent.units()).sum();
        let image_tokens = units * manifest.prompt.tokens_per_tile;
        Self {
            kin: kin(request),
            bytes: OVERHEAD + request.bytes(),
            tiles,
            shared_tokens: request.prompt.bytes() / BYTES_PER_TOKEN + image_tokens,
            own_tokens: responses / BYTES_PER_TOKEN + request.responses.len(),
        }
    }
}

#[cfg(test)]
impl Load {
    /// A request of these sizes.
    pub(crate) fn fake(kin: u64, shared_tokens: usize, own_tokens: usize) -> Self {
        Self {
            kin,
            bytes: OVERHEAD,
            tiles: 0,
            shared_tokens,
            own_tokens,
        }
    }
}

fn kin(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&request.prompt, &request.images).hash(&mut hasher);
    hasher.finish()
}

/// Width and height.
fn sides(image: &Image, max_pixels: u64) -> Option<(u32, u32)> {
    match image {
        Image::Path(path) if path.is_file() => file_dimensions(path, max_pixels).ok(),
        Image::Path(_) => None,
        Image::Bytes(bytes) => dimensions(bytes).ok(),
        Image::Rgb(pixels) => Some((pixels.width(), pixels.height())),
        Image::Pixels(pixels) => {
            let (height, width, _) = pixels.dim();
            Some((width.try_into().ok()?, height.try_into().ok()?))
        }
    }
}

/// The speed of a model, measured in its runs. Zero seconds before the first one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    tiles: Rate,
    tokens: Rate,
}

/// Seconds of a unit, the mean of the last runs.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    seconds: f64,
    units: f64,
}

impl Pace {
    /// Adds the work of a call. Images from the cache count as tiles that took no time.
    pub(crate) fn add(&mut self, usage: &Usage) {
        let tiles = usage.tiles + usage.tiles_cached;
        let vision = usage.vision.as_secs_f64();
        self.tiles.add(vision, tiles);
        let reward = usage.engine.as_secs_f64() - vision;
        self.tokens.add(reward, usage.tokens);
    }

    /// Seconds of a request without kin in its batch.
    pub(crate) fn alone(&self, load: &Load) -> f64 {
        let tokens = self.tokens.of(load.shared_tokens);
        self.tiles.of(load.tiles) + tokens + self.with_kin(load)
    }

    /// Seconds of a request that shares images and prompt with another one.
    pub(crate) fn with_kin(&self, load: &Load) -> f64 {
        self.tokens.of(load.own_tokens)
    }
}

impl Rate {
    fn add(&mut self, seconds: f64, units: u64) {
        if units > 0 {
            self.seconds = DECAY * self.seconds + seconds;
            self.units = DECAY * self.units + units as f64;
        }
    }

    fn of(&self, units: usize) -> f64 {
        match self.units > 0.0 {
            true => units as f64 * self.seconds / self.units,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use seeward_models::bundle::Bundle;

    use super::*;

    fn load(request: &Request) -> Load {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/bundles/qwen2");
        let bundle = Bundle::open(&golden).unwrap();
        Load::of(request, bundle.manifest(), &Options::default())
    }

    fn image() -> Image {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        Image::path(golden.join("images/wide.png"))
    }

    #[test]
    fn kin_have_equal_prompts_and_images() {
        let request = || Request::new("what is this?").image(image());
        let [first, kin] = ["a", "another"].map(|r| load(&request().response(r)));
        assert_eq!(first.kin, kin.kin);
        assert!(first.own_tokens < kin.own_tokens && first.bytes < kin.bytes);
        assert!(first.tiles > 1 && first.shared_tokens > first.tiles);
        for other in [
            Request::new("what is this?"),
            Request::new("what?").image(image()),
            request().image(image()),
        ] {
            assert_ne!(load(&other.response("a")).kin, first.kin);
        }
    }

    #[test]
    fn images_that_cannot_be_read_count_nothing() {
        let bad = Request::new("p").image(vec![1]).image(Path::new("no/such"));
        let bad = load(&bad.image(Path::new("/dev/zero")).response("r"));
        assert_eq!((bad.tiles, bad.shared_tokens), (0, 0));
    }

    #[test]
    fn seconds_are_those_of_the_last_runs() {
        let load = Load {
            kin: 0,
            bytes: 0,
            tiles: 2,
            shared_tokens: 100,
            own_tokens: 50,
        };
        let mut pace = Pace::default();
        assert_eq!(pace.alone(&load), 0.0);
        let mut usage = Usage {
            tiles: 1,
            tokens: 10,
            vision: Duration::from_secs(3),
            engine: Duration::from_secs(5),
            ..Usage::default()
        };
        pace.add(&usage);
        // 3 s a tile, 0.2 s a token.
        assert!((pace.alone(&load) - 36.0).abs() < 1e-9);
        assert!((pace.with_kin(&load) - 10.0).abs() < 1e-9);
        // From the cache, a tile takes no time.
        (usage.tiles, usage.tiles_cached, usage.vision) = (0, 9, Duration::ZERO);
        usage.engine = Duration::from_secs(2);
        (0..100).for_each(|_| pace.add(&usage));
        assert!((pace.alone(&load) - 30.0).abs() < 1e-2);
    }
}
