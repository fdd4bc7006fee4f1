//! Bundles whose manifest contradicts their graphs, or whose files are damaged: loading or scoring reports it, and never
//! panics. `SEEWARD_FUZZ_CASES` sets the number of cases, `SEEWARD_FUZZ_SEED` the seed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use seeward_models::hash::hash;
use seeward_runtime::{Options, Request, RewardModel};
use serde_json::{Value, json};
use tempfile::TempDir;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const MANIFEST: &str = "reward_model.json";

fn copy() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(Path::new(GOLDEN).join("bundles/qwen2")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn fuzz<S: Strategy>(strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let mut runner = TestRunner::new(Config {
        cases: number("SEEWARD_FUZZ_CASES").unwrap_or(40) as u32,
        rng_seed: RngSeed::Fixed(number("SEEWARD_FUZZ_SEED").unwrap_or(0)),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Loads and scores: finite rewards, or errors of one line.
fn score(bundle: &Path) -> Result<(), TestCaseError> {
    let request = Request::new("what is this?")
        .image(PathBuf::from(GOLDEN).join("images/vqa0.png"))
        .responses(["A shape.".to_owned(), "x".repeat(50)]);
    let scored =
        RewardModel::load(bundle, Options::default().threads(1)).and_then(|m| m.score(&[request]));
    let result = scored.and_then(|mut scored| scored.results.remove(0));
    match result {
        Ok(scores) => prop_assert!(scores.rewards.iter().all(|reward| reward.is_finite())),
        Err(error) => {
            let message = error.to_string();
            prop_assert!(
                !message.is_empty() && !message.contains('\n'),
                "{:?}",
                message
            );
        }
    }
    Ok(())
}

/// Every value in the manifest but the files' hashes.
fn leaves<'a>(value: &'a mut Value, into: &mut Vec<&'a mut Value>) {
    match value {
        Value::Object(object) => {
            let fields = object.iter_mut().filter(|(name, _)| *name != "files");
            fields.for_each(|(_, value)| leaves(value, into));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leaves(item, into)),
        leaf => into.push(leaf),
    }
}

fn other_value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(1000),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(u64::MAX - 1),
        json!(1e300),
        json!(-0.5),
        json!(""),
        json!("cuda"),
        json!("int8"),
        json!("cpu"),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!({"type": "dynamic", "factor": 2.0, "max_positions": u64::MAX}),
        json!({"type": "longrope", "short_factors": [], "long_factors": [], "original_positions": u64::MAX, "max_positions": 1}),
    ])
}

#[test]
fn manifests_that_contradict_the_graphs_are_reported() {
    let copy = copy();
    let path = copy.path().join(MANIFEST);
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let changes = prop::collection::vec((any::<Index>(), other_value()), 1..3);
    fuzz(changes, |changes| {
        let mut manifest = sound.clone();
        for (at, value) in changes {
            let mut all = Vec::new();
            leaves(&mut manifest, &mut all);
            let index = at.index(all.len());
            *all[index] = value;
        }
        fs::write(&path, manifest.to_string()).unwrap();
        score(copy.path())
    });
}

#[test]
fn damaged_weights_are_reported_or_computed_with() {
    let copy = copy();
    let files = ["reward.onnx.data", "vision.onnx.data"].map(|name| {
        let path = copy.path().join(name);
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    });
    let damage = (
        0..2_usize,
        any::<Index>(),
        prop::collection::vec(any::<(Index, [u8; 4])>(), 0..4),
        any::<bool>(),
    );
    fuzz(damage, |(file, end, writes, cut)| {
        let (path, sound) = &files[file];
        let mut bytes = sound.clone();
        for (at, word) in writes {
            let at = at.index(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&word);
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        fs::write(path, &bytes).unwrap();
        let outcome = score(copy.path());
        fs::write(path, sound).unwrap();
        outcome
    });
}

/// Graphs cut short or with other bytes, under a manifest that has their hashes.
#[test]
fn damaged_graphs_are_reported_or_computed_with() {
    let copy = copy();
    let path = copy.path().join(MANIFEST);
    let manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let graphs = ["reward.onnx", "vision.onnx"].map(|name| {
        let bytes = fs::read(copy.path().join(name)).unwrap();
        (name, bytes)
    });
    let damage = (
        0..2_usize,
        any::<Index>(),
        prop::collection::vec(any::<(Index, u8)>(), 1..4),
        any::<bool>(),
    );
    fuzz(damage, |(graph, end, writes, cut)| {
        let (name, sound) = &graphs[graph];
        let mut bytes = sound.clone();
        for (at, byte) in writes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let mut files = manifest.clone();
        files["files"][name] = hash(&bytes).into();
        fs::write(copy.path().join(name), &bytes).unwrap();
        fs::write(&path, files.to_string()).unwrap();
        let outcome = score(copy.path());
        fs::write(copy.path().join(name), sound).unwrap();
        outcome
    });
}
