//! The runtime for Python: the module `seeward._native`, over which the package in `python/seeward/` is written. Types,
//! documentation and examples for users are there; here is what needs Rust.

mod batch;
mod batcher;
mod card;
mod errors;
mod groups;
mod images;
mod local;
mod model;
mod options;
mod programs;
mod requests;
mod windows;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::batcher::{Batcher, Pending};
    #[pymodule_export]
    use super::card::model_card;
    #[pymodule_export]
    use super::model::{RewardModel, verify_bundle};
    #[pymodule_export]
    use super::programs::{evaluate_main, export_main, import_main, score_main, serve_main};
}
