//! The programs over the runtime: one module each, and what they share at the terminal.

pub mod evaluate;
pub mod score;
mod terminal;
