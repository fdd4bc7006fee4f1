//! Every reader fed with damaged files: it reads them or refuses them in one line, and never panics.
//!
//! A few cases each by default. `SEEWARD_FUZZ_CASES=100000 cargo test -p seeward-models --test fuzz -- --nocapture` looks
//! longer; `SEEWARD_FUZZ_SEED` makes other cases.
#![allow(clippy::unwrap_used)]

mod bundles;
mod damage;
mod images;
mod rows;
mod tokenizers;

use std::path::{Path, PathBuf};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(path)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs `check` on this number of cases, or on the number in the environment.
fn fuzz<S: Strategy>(
    cases: u32,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let cases = number("SEEWARD_FUZZ_CASES").map_or(cases, |cases| cases as u32);
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(number("SEEWARD_FUZZ_SEED").unwrap_or(0)),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// An error says something, in one line.
fn check_message<T>(result: Result<T, seeward_models::Error>) -> Result<Option<T>, TestCaseError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let message = error.to_string();
            let fine = !message.is_empty() && !message.contains('\n');
            proptest::prop_assert!(fine, "{:?}", message);
            Ok(None)
        }
    }
}
