//! From the bytes of an image to the tiles or patches that the vision model looks at: `bytes → RGB → resized → u8 tiles`.
//!
//! Every step gives exactly the values of the published preprocessing (Pillow's colour conversion and bicubic resize,
//! InternVL's dynamic tiling, Qwen's resize to whole tokens), so that a checkpoint trained with either sees the same pixels.

mod bmp;
mod decode;
mod extent;
mod grid;
mod jpeg;
mod normalization;
mod places;
mod resize;
mod rgb;
mod settings;
mod tile;

pub use decode::{DEFAULT_MAX_PIXELS, MAX_SIDE, decode, decode_with, dimensions, file_dimensions};
pub use extent::Extent;
pub use grid::{Grid, GridSettings};
pub use jpeg::is_jpeg;
pub use normalization::Normalization;
pub use places::{GridPlaces, Taps};
pub use rgb::Rgb;
pub use settings::{ImageSettings, Pixels};
pub use tile::{TileSettings, Tiles, tile_count, tiles};

/// The version of the rules by which an image file becomes tiles: with another one, scores differ. Version 1, of 0.2.0 and
/// before, decoded JPEGs by other arithmetic, up to 6 of 255 levels off.
pub const PIXELS_VERSION: u32 = 2;

/// The version of files that are older than their field for it.
pub(crate) fn first_pixels_version() -> u32 {
    1
}
