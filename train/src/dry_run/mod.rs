//! `--dry-run`: checks and estimates of a run without training.

pub(crate) mod activations;
pub(crate) mod batch_shape;
mod contents;
pub mod preflight;
mod row;
pub mod survey;
mod surveyor;
