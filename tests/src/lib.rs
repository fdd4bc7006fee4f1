//! What the tests across crates share: golden files and the comparison of floats.

pub mod compare;
pub mod golden;
