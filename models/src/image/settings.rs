//! How the images of a model are cut for its vision encoder: into tiles, or into a grid of patches.

use serde::{Deserialize, Serialize};

use super::extent::Extent;
use super::grid::{Grid, GridSettings};
use super::rgb::Rgb;
use super::tile::{TileSettings, Tiles, tile_count, tiles};
use crate::Result;

/// The settings of a model's images. Equal settings and equal pixels give equal inputs of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSettings {
    /// InternVL: square tiles.
    Tiles(TileSettings),
    /// Qwen2-VL and later: the whole image at about its own size.
    Grid(GridSettings),
}

/// An image as the vision encoder reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Square tiles.
    Tiles(Tiles),
    /// Patches of the whole image.
    Grid(Grid),
}

impl Pixels {
    /// The extent of the image.
    pub fn extent(&self) -> Extent {
        match self {
            Self::Tiles(tiles) => Extent::Tiles(tiles.dim().0),
            Self::Grid(grid) => grid.extent(),
        }
    }
}

impl ImageSettings {
    /// # Errors
    /// A setting outside its range: a slip in a configuration that would exhaust memory.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Tiles(settings) => settings.validate(),
            Self::Grid(settings) => settings.validate(),
        }
    }

    /// The extent of an image of this size.
    ///
    /// # Errors
    /// A size that the model does not read: in a grid, an aspect ratio above 200.
    pub fn extent(&self, width: u32, height: u32) -> Result<Extent> {
        match self {
            Self::Tiles(settings) => Ok(Extent::Tiles(tile_count(width, height, settings))),
            Self::Grid(settings) => settings.extent(width, height),
        }
    }

    /// Resizes and cuts an image.
    ///
    /// # Errors
    /// As [`Self::extent`] and [`tiles`].
    pub fn cut(&self, image: &Rgb) -> Result<Pixels> {
        match self {
            Self::Tiles(settings) => tiles(image, settings).map(Pixels::Tiles),
            Self::Grid(settings) => settings.cut(image).map(Pixels::Grid),
        }
    }

    /// The settings for the white image of text-only models, which is one tile.
    fn for_white(self) -> Self {
        match self {
            Self::Tiles(settings) => Self::Tiles(settings.one_tile()),
            grid @ Self::Grid(_) => grid,
        }
    }

    /// The white image that replaces images for text-only models.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn white(&self) -> Result<Pixels> {
        self.for_white().cut(&Rgb::white())
    }

    /// The extent of the white image.
    ///
    /// # Errors
    /// As [`Self::extent`].
    pub fn white_extent(&self) -> Result<Extent> {
        let white = Rgb::white();
        self.for_white().extent(white.width(), white.height())
    }

    /// The most tiles, or tokens of a grid, of one image.
    pub fn most_units(&self) -> usize {
        match self {
            Self::Tiles(settings) => settings.most_tiles(),
            Self::Grid(settings) => settings.most_tokens(),
        }
    }
}
