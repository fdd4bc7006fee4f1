//! The network as differentiable LibTorch operations, its weights and its memory.

pub(crate) mod arrays;
pub(crate) mod attention;
pub mod contention;
pub mod forward_context;
pub mod interpreter;
pub mod lora;
pub mod memory;
pub(crate) mod native;
pub mod parameters;
mod patches;
pub mod precision;
mod rope;
pub(crate) mod tape;
