//! InternVL's dynamic tiling: an image becomes a grid of square tiles of nearly its own aspect ratio.

use ndarray::Array4;
use serde::{Deserialize, Serialize};

use super::decode::DEFAULT_MAX_PIXELS;
use super::resize::resize;
use super::rgb::Rgb;
use crate::{Error, ImageFault, Result};

/// The colour of square padding: ImageNet's mean, whatever the normalisation.
const PADDING: [u8; 3] = [123, 116, 103];

/// The settings of image tiling. Equal settings and equal pixels give equal tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileSettings {
    /// The side of a tile in pixels.
    pub image_size: u32,
    /// Cut into a grid; otherwise the whole image is resized to one tile.
    pub dynamic: bool,
    /// Add the whole image as a last tile if the grid has more than one.
    pub use_thumbnail: bool,
    /// Fewest tiles of a grid. More than `max_tiles` means one tile, as published.
    pub min_tiles: u32,
    /// Most tiles of a grid, the thumbnail not counted.
    pub max_tiles: u32,
    /// Pad an image to a square before it is resized. Without effect if `dynamic` is on: tiles are squares.
    pub pad2square: bool,
}

impl TileSettings {
    const MAX_IMAGE_SIZE: u32 = 4096;
    const MAX_TILES: u32 = 1024;

    /// # Errors
    /// A tile side outside 1..=4096 or more than 1024 tiles: a slip in a configuration that would exhaust memory.
    pub fn validate(&self) -> Result<()> {
        if !(1..=Self::MAX_IMAGE_SIZE).contains(&self.image_size) {
            return Err(Error::invalid(format!(
                "image_size: expected 1 to {}, got {}",
                Self::MAX_IMAGE_SIZE,
                self.image_size
            )));
        }
        if self.max_tiles > Self::MAX_TILES {
            return Err(Error::invalid(format!(
                "max_tiles: expected at most {}, got {}",
                Self::MAX_TILES,
                self.max_tiles
            )));
        }
        Ok(())
    }

    /// The same with tiling off: the settings for the white image of the text-only branch.
    pub fn one_tile(self) -> Self {
        Self {
            dynamic: false,
            ..self
        }
    }

    /// The most tiles of one image.
    pub(super) fn most_tiles(&self) -> usize {
        match self.dynamic {
            false => 1,
            true => self.max_tiles.max(1) as usize + usize::from(self.use_thumbnail),
        }
    }

    /// Columns and rows of the grid for an image of this size.
    fn grid(&self, width: u32, height: u32) -> (u32, u32) {
        if self.dynamic {
            closest_grid(width, height, self)
        } else {
            (1, 1)
        }
    }
}

/// The tiles of one image, row by row from the top left, then the thumbnail: u8 [tiles, height, width, 3].
pub type Tiles = Array4<u8>;

/// The number of tiles that [`tiles`] cuts from an image of this size, thumbnail included.
pub fn tile_count(width: u32, height: u32, settings: &TileSettings) -> usize {
    let (columns, rows) = settings.grid(width, height);
    let count = columns as usize * rows as usize;
    count + usize::from(has_thumbnail(count, settings))
}

/// Cuts `image` into tiles.
///
/// # Errors
/// [Invalid](TileSettings::validate) settings; an image whose padded square would have more than
/// [`DEFAULT_MAX_PIXELS`].
pub fn tiles(image: &Rgb, settings: &TileSettings) -> Result<Tiles> {
    settings.validate()?;
    let size = settings.image_size;
    let pixels = if settings.dynamic {
        grid_pixels(image, settings)
    } else if settings.pad2square {
        resize(&padded_to_square(image)?, size, size).pixels
    } else {
        resize(image, size, size).pixels
    };
    let count = tile_count(image.width, image.height, settings);
    let side = size as usize;
    Array4::from_shape_vec([count, side, side, 3], pixels).map_err(Error::invalid)
}

fn has_thumbnail(count: usize, settings: &TileSettings) -> bool {
    settings.dynamic && settings.use_thumbnail && count > 1
}

/// The grid whose aspect ratio is closest to the image's. Of several, the one with more tiles if the image has
/// pixels for more than half of them. `dynamic_preprocess` of the published InternVL code.
fn closest_grid(width: u32, height: u32, settings: &TileSettings) -> (u32, u32) {
    let aspect = f64::from(width) / f64::from(height);
    let area = f64::from(width) * f64::from(height);
    let tile_area = f64::from(settings.image_size) * f64::from(settings.image_size);
    let mut best = (1, 1);
    let mut best_distance = f64::INFINITY;
    for (columns, rows) in grids(settings) {
        let distance = (aspect - f64::from(columns) / f64::from(rows)).abs();
        let fills_half = area > 0.5 * tile_area * f64::from(columns) * f64::from(rows);
        if distance < best_distance || (distance == best_distance && fills_half) {
            best = (columns, rows);
            best_distance = distance;
        }
    }
    best
}

/// Every grid of `min_tiles` to `max_tiles` tiles as (columns, rows), those of fewer tiles first.
fn grids(settings: &TileSettings) -> impl Iterator<Item = (u32, u32)> {
    (settings.min_tiles..=settings.max_tiles).flat_map(|count| {
        (1..=count)
            .filter(move |columns| count.is_multiple_of(*columns))
            .map(move |columns| (columns, count / columns))
    })
}

/// Resizes the whole image to the size of the grid, and cuts it.
fn grid_pixels(image: &Rgb, settings: &TileSettings) -> Vec<u8> {
    let size = settings.image_size;
    let (columns, rows) = settings.grid(image.width, image.height);
    let whole = resize(image, columns * size, rows * size);
    if (columns, rows) == (1, 1) {
        return whole.pixels;
    }
    let mut pixels = cut(&whole, size as usize);
    if settings.use_thumbnail {
        pixels.extend(resize(image, size, size).pixels);
    }
    pixels
}

/// The tiles of an image whose sides are multiples of `size`.
fn cut(whole: &Rgb, size: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(whole.pixels.len());
    for row_of_tiles in whole.pixels.chunks_exact(whole.stride() * size) {
        for left in (0..whole.stride()).step_by(size * 3) {
            for row in row_of_tiles.chunks_exact(whole.stride()) {
                pixels.extend_from_slice(&row[left..left + size * 3]);
            }
        }
    }
    pixels
}

/// The image in the middle of a square; with an odd margin, one pixel nearer to the top or left.
fn padded_to_square(image: &Rgb) -> Result<Rgb> {
    let side = image.width.max(image.height);
    if u64::from(side) * u64::from(side) > DEFAULT_MAX_PIXELS {
        return Err(Error::image(
            ImageFault::TooLarge,
            format!(
                "pad2square: a square around {} x {} pixels would have more than {DEFAULT_MAX_PIXELS}",
                image.width, image.height
            ),
        ));
    }
    let mut square = Rgb::filled(side, side, PADDING);
    let left = (side - image.width) as usize / 2 * 3;
    let top = (side - image.height) as usize / 2;
    let stride = square.stride();
    let rows = square.pixels.chunks_exact_mut(stride).skip(top);
    for (row, source) in rows.zip(image.pixels.chunks_exact(image.stride())) {
        row[left..left + source.len()].copy_from_slice(source);
    }
    Ok(square)
}
