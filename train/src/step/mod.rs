//! One optimizer step: loss, gradients, update, measures.

pub(crate) mod agreement;
pub mod best;
pub(crate) mod evaluator;
pub mod loss;
pub mod measures;
pub mod optimizer;
pub(crate) mod phase;
pub mod schedule;
pub(crate) mod shard;
pub mod trainer;
pub(crate) mod units;
