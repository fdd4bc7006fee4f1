//! The processes that train together.

pub mod environment;
pub mod fault;
pub(crate) mod group;
pub mod launcher;
pub mod ranks;
