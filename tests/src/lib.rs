//! Code shared by the tests across crates: golden files, the comparison of floats, the programs under test.

pub mod compare;
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
