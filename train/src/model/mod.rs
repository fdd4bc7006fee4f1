//! The branches of a run: read from checkpoints, set up for training, run forward.

pub(crate) mod adapter;
pub mod branch;
pub(crate) mod branch_source;
pub mod branches;
pub mod feature_cache;
pub mod setup;
pub(crate) mod trainable;
pub(crate) mod vocabulary;
