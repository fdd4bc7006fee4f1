//! Linear layers of bf16 weights. Inputs are rounded to bf16, products are summed in f32, and bias and nonlinearity are
//! applied while the sums are in the cache. The sums of a row are added in the same order whatever the other rows are: on one
//! CPU, an output has the same bits alone and in any batch. Sets of instructions differ by the rounding of sums.

mod dispatch;
mod hidden;
mod layer;
mod linear;
mod product;
mod rows;
#[cfg(test)]
mod tests;

pub use hidden::{FeedForward, HiddenLayers};
pub use layer::{Layer, LayerParts, SizeMismatch, packed_shape};
pub use linear::linear;
pub use product::PANEL_GROUP;
pub use rows::Rows;
