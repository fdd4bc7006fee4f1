//! Code shared by the tests across crates: golden files, the comparison of floats, the programs under test.

pub mod compare;
pub mod golden;
pub mod program;
