//! A run examined without training it.

pub(crate) mod activations;
pub(crate) mod batch_shape;
pub mod preflight;
pub mod survey;
