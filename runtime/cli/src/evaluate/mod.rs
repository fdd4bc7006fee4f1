//! How good a reward model is on pairs whose better response is known.

pub mod metrics;
pub mod plot;
