//! One optimizer step: loss, gradients, update, measures.

pub mod best;
pub(crate) mod evaluator;
pub mod loss;
pub mod measures;
pub mod optimizer;
pub(crate) mod phase;
pub mod schedule;
pub mod trainer;
