//! Scores responses with an exported reward model, through ONNX Runtime.
//!
//! ```
//! use seeward_runtime::{Image, Options, Request, RewardModel};
//!
//! # const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/bundles/qwen2");
//! # const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/images/vqa0.png");
//! let model = RewardModel::load(BUNDLE, Options::default())?;
//! let request = Request {
//!     prompt: "what color is the shape?".to_owned(),
//!     images: vec![Image::Path(PHOTO.into())],
//!     responses: vec!["The shape is blue.".to_owned(), "It is a yellow circle, I think.".to_owned()],
//! };
//! for result in model.score(&[request])?.results {
//!     println!("{:?}", result?.rewards); // one number for each response
//! }
//! # Ok::<(), seeward_runtime::Error>(())
//! ```
//!
//! The responses of a request share its images and its prompt: both are computed once. Requests of one call fill the
//! engine's runs together, so many requests in a call are faster than many calls; equal pictures are encoded once.
//!
//! **Threads.** [`RewardModel`] is `Send + Sync`, and its clones are the same model. A run uses all of the engine's threads
//! ([`Options::threads`]), so runs of several callers take turns; pictures and tokens are made on as many threads more.
//! [`RewardModel::prepare`] and [`RewardModel::run`] are the two halves of [`RewardModel::score`], for callers who overlap
//! them. A [`Batcher`] does that, and scores the requests of many threads or tasks together.
//!
//! **Memory.** A model holds its weights once, whatever the number of clones and callers. A call holds the pixels and
//! embeddings of its distinct pictures (for InternVL2-1B 4 and 6 MB for seven tiles), and a run what its tokens take:
//! [`Options::batch_tokens`] bounds it. Two models in a process, as on two GPUs, share nothing but the library.
//!
//! **Errors.** No input makes this crate panic: what is wrong with a request is its own [`Error`], and its neighbours are
//! scored.
//!
//! ONNX Runtime is a shared library, found at run time: [`Options::library`], else the file that `ORT_DYLIB_PATH` names,
//! else beside the executable, else `third_party/onnxruntime/` under the current folder.

#![warn(clippy::missing_errors_doc, clippy::undocumented_unsafe_blocks)]

mod answer;
mod batcher;
mod device;
mod error;
mod graph;
mod images;
mod library;
mod model;
mod operators;
mod options;
mod placement;
mod prepared;
mod provider;
mod request;
mod scale;
mod vision;

pub use answer::Answer;
pub use batcher::{Batcher, Batching};
pub use device::Device;
pub use error::{Error, Result};
pub use model::RewardModel;
pub use operators::operators;
pub use options::{DEFAULT_BATCH_TOKENS, Options};
pub use placement::Placement;
pub use prepared::Prepared;
pub use request::{Image, Request, Scored, Scores, Usage};
pub use scale::Scale;
pub use seeward_models::bundle::Bundle;
pub use seeward_models::image::Rgb;
pub use seeward_models::kinds::InputMode;
