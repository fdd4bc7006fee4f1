//! From rows of preferences to batches, prepared on the host.

pub(crate) mod cached;
pub(crate) mod flops;
pub mod inputs;
pub(crate) mod lengths;
pub mod loader;
pub mod preprocess;
pub(crate) mod row_index;
pub mod rows;
pub mod sampler;
pub mod scan;
pub(crate) mod skipped_rows;
