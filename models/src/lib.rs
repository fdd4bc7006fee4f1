//! The definition of a Seeward reward model: configuration, checkpoint, prompt, image tiles, token layout and network.
//! Training, export and serving share this crate, so that everything that changes a score exists once, here.

pub mod atomic;
pub mod bundle;
pub mod checkpoint;
pub mod config;
pub mod contract;
mod error;
mod family;
pub mod forest;
pub mod hash;
pub mod image;
pub mod kinds;
pub mod net;
pub mod probe;
pub mod process;
pub mod prompt;
pub mod rope;
#[cfg(feature = "rows")]
pub mod rows;
pub mod sample;
pub mod tokenizer;

pub use error::{Error, ImageFault, Result, Text};
