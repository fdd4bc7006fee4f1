//! Linear layers of 8-bit integers, and rows of values quantized for them. A row's scale, a layer's scales and its bias are
//! applied in the same pass as the products. Every row has its own scale: an output does not depend on the other rows. Sums
//! are exact, so that all CPUs compute the same bits.

mod dispatch;
mod dot;
mod hidden;
mod layer;
mod linear;
mod quantize;
mod rotation;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dot::QUAD;
pub use hidden::{FeedForward, HiddenLayers};
pub use layer::{Layer, LayerParts, SizeMismatch, packed_shape};
pub use linear::linear;
pub use quantize::{QuantRange, Quantizer};
pub use rotation::{GROUP, rotate};
pub use rows::{QuantizedRows, QuantizedRowsMut};
