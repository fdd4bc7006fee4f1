//! The programs over the runtime: one module each, and shared modules.

mod arguments;
mod bundle;
pub mod evaluate;
mod image_folder;
pub mod import;
mod journal;
pub mod score;
mod terminal;
