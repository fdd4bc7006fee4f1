//! One optimizer step: loss, gradients, update, measures.

pub mod best;
pub mod loss;
pub mod measures;
pub mod optimizer;
pub mod schedule;
pub mod trainer;
