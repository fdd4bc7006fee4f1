//! Progress on the terminal, `metrics.jsonl` and TensorBoard.

pub(crate) mod display;
pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod notices;
