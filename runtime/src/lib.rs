//! Scores responses with an exported reward model, through ONNX Runtime.
//!
//! ```no_run
//! use seeward_runtime::{Image, Options, Request, RewardModel};
//!
//! let model = RewardModel::load("bundles/mine", Options::default())?;
//! let request = Request::new("what color is the shape?")
//!     .image(Image::path("photos/1.png")) // or Image::bytes, Image::pixels
//!     .response("The shape is blue.")
//!     .response("It is a circle, I think.");
//! for result in model.score(&[request])?.results {
//!     println!("{:?}", result?.rewards); // one for each response
//! }
//! # Ok::<(), seeward_runtime::Error>(())
//! ```
//!
//! The responses of a request share its images and its prompt: both are computed once. So do requests of one call with equal
//! images and prompt; those with equal images share their encoding. All requests of a call fill the engine's runs together,
//! so many requests in a call are faster than many calls.
//!
//! **Threads.** [`RewardModel`] is `Send + Sync`, and its clones are the same model. A run uses all of the engine's threads
//! ([`Options::threads`]), so runs of several callers take turns; as many other threads decode images and tokenise.
//! [`RewardModel::prepare`] and [`RewardModel::run`] are the two halves of [`RewardModel::score`], for callers that overlap
//! them. A [`Batcher`] does that, and scores the requests of many threads or tasks together.
//!
//! **Memory.** A model holds its weights once, whatever the number of clones and callers. A call holds the pixels and
//! embeddings of its distinct images (for InternVL2-1B 4 and 6 MB for seven tiles), and a run the activations of its tokens:
//! [`Options::batch_tokens`] bounds it. [`Options::image_cache_bytes`] keeps embeddings for later calls. Two models in a process, for example on two GPUs, share nothing but the library.
//!
//! **Errors.** No input makes this crate panic: a problem with a request is its own [`Error`], and its neighbours are scored.
//! Causes found by [`models`] keep their type.
//!
//! ONNX Runtime is a shared library, found at run time: [`Options::library`], else the file that `ORT_DYLIB_PATH` names,
//! else next to the executable, else `third_party/onnxruntime/` under the current folder.

mod answer;
mod assignment;
mod batch_config;
mod batcher;
mod cache;
mod device;
mod error;
mod graph;
mod images;
mod library;
mod load;
mod model;
mod operators;
mod options;
mod platform;
mod prepared;
mod probes;
mod provider;
mod queue;
mod request;
mod reward;
mod scale;
mod scores;
mod vision;

pub use answer::Answer;
pub use assignment::NodeAssignment;
pub use batch_config::BatchConfig;
pub use batcher::{Announcement, Batcher, BatcherStatus};
pub use cache::ImageCacheUsage;
pub use device::{Device, ParseDeviceError};
pub use error::{Error, Result};
pub use model::RewardModel;
pub use operators::operators;
pub use options::{DEFAULT_BATCH_TOKENS, Options};
pub use platform::Platform;
pub use prepared::Prepared;
pub use probes::ProbeCheck;
pub use request::{Image, Request};
pub use scale::Scale;
pub use scores::{Scored, Scores, Times, Usage};
pub use seeward_models as models;
pub use seeward_models::bundle::Bundle;
pub use seeward_models::chat::{Message, Prompt, Role};
pub use seeward_models::image::Rgb;
pub use seeward_models::kinds::InputMode;
