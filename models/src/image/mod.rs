//! From the bytes of an image to the tiles that the vision model looks at: `bytes → RGB → grid → u8 tiles`.
//!
//! Every step gives exactly the values of the published preprocessing (Pillow's colour conversion and bicubic resize,
//! InternVL's dynamic tiling), so that a checkpoint trained with either sees the same pixels.

mod decode;
mod jpeg;
mod normalization;
mod resize;
mod rgb;
mod tile;

pub use decode::{DEFAULT_MAX_PIXELS, MAX_SIDE, decode, decode_with, dimensions, file_dimensions};
pub use normalization::Normalization;
pub use rgb::Rgb;
pub use tile::{TileSettings, Tiles, tile_count, tiles};
