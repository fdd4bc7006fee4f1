//! Rows of preferences → batches of tensors, prepared on the host.

pub(crate) mod cached;
pub(crate) mod flops;
pub(crate) mod lengths;
pub mod loader;
pub mod preprocess;
pub(crate) mod row_index;
pub mod rows;
pub mod sampler;
pub(crate) mod skipped_rows;
