//! What the tests across crates share (golden files, the comparison of floats), and the tool `seeward-fixture`.

pub mod compare;
pub mod fixture;
pub mod golden;
pub mod program;

/// The README's Rust examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
