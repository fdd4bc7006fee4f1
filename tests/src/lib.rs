//! What the tests across crates share (golden files, the comparison of floats), and the tool `seeward-fixture`.

pub mod compare;
pub mod fixture;
pub mod golden;
pub mod program;

/// The examples of the documentation compile.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/scoring.md")]
    struct Scoring;
}
