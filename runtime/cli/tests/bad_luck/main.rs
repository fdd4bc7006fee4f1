//! Mistakes and failures, through the programs: each is reported, and nothing is lost.
#![allow(clippy::unwrap_used)]

mod bundles;
mod engine;
mod images;
mod output;
mod rows;
#[path = "../support/mod.rs"]
mod support;
