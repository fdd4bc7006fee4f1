//! A checkpoint folder in the Hugging Face layout: `model.safetensors`, or shards with an index. Tensors are read by
//! ranges, so that memory never grows with the model and a truncated file is an error rather than a fault.

mod dtype;
mod folder;
mod header;
mod names;
mod stored;
mod stream;
mod write;

pub use dtype::Dtype;
#[cfg(feature = "rows")]
pub(crate) use folder::LFS_POINTER;
pub(crate) use folder::diagnose;
pub use header::{VALUE_HEAD_FILE, WEIGHTS_FILE, is_value_head};
pub use names::Names;
pub(crate) use names::{Rename, Table};
pub use stored::{Checkpoint, Required, TensorInfo};
pub use stream::{ByteSink, ChunkedTensor, TensorStream, write_streams};
pub use write::{TensorData, write_tensors};

#[cfg(test)]
mod tests;
