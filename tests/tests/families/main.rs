//! Families of models that the published code does not have: rewards of other implementations, through LibTorch and
//! through ONNX Runtime.
//!
//! Tolerance in fp32: 1e-4 · max(1, |reward|). Each mistake named by `controls` in a `golden.json` moves a reward by 0.2
//! or more, and no tensor can be neutral without a change of 0.02.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod engines;
mod golden;
mod heads;
mod names;
mod programs;
mod training;

use seeward_models::config::Config;
use seeward_models::hash::hash;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS};
use seeward_models::kinds::{InputMode, Precision, Target};

use engines::{LibTorch, Onnx};
use golden::{families, is_jpeg, model, rows, rows_of};

const MODES: [InputMode; 3] = [InputMode::Full, InputMode::TextOnly, InputMode::ImageOnly];
const TOLERANCE: f64 = 1e-4;

#[test]
fn token_ids_and_tiles_are_those_of_the_family() {
    for family in &families() {
        let (torch, config) = (
            LibTorch::load(family, InputMode::Full, true),
            Config::open(&model(family)).unwrap(),
        );
        for row in rows(family) {
            let tiles: Vec<usize> = row.tiles.iter().map(|(count, _)| *count).collect();
            for response in &row.responses {
                assert_eq!(
                    torch.ids(&row.prompt, &response.text, &tiles),
                    response.ids,
                    "{family}: {:?}, {:?}",
                    row.prompt,
                    response.text
                );
            }
            for (path, (count, pixels)) in row.images.iter().zip(&row.tiles) {
                let file = std::fs::read(path).unwrap();
                let tiles =
                    image::decode_with(&file, DEFAULT_MAX_PIXELS, config.transparency).unwrap();
                let tiles = image::tiles(&tiles, &config.tiles).unwrap();
                assert_eq!(tiles.dim().0, *count, "{family}: {path:?}");
                let same = hash(tiles.as_slice().unwrap()) == *pixels;
                assert!(same || is_jpeg(path), "{family}: {path:?}");
            }
        }
    }
}

#[test]
fn libtorch_gives_the_golden_rewards() {
    for family in &families() {
        for mode in MODES {
            let [packed, alone] = [true, false].map(|shared| LibTorch::load(family, mode, shared));
            for row in &rows_of(family, mode) {
                for (what, torch) in [("packed", &packed), ("alone", &alone)] {
                    let what = format!("LibTorch {family} {what}");
                    row.check(&what, mode, &torch.rewards(row), TOLERANCE);
                }
            }
        }
    }
}

#[test]
fn exported_models_give_the_golden_rewards() {
    for family in &families() {
        for (target, precision) in [
            (Target::Portable, Precision::Fp32),
            (Target::Cpu, Precision::Fp32),
            (Target::Portable, Precision::Fp16),
            (Target::Cpu, Precision::Int8),
            (Target::Cpu, Precision::Bf16),
        ] {
            let onnx = Onnx::export(family, target, precision);
            for mode in MODES {
                agrees(family, &onnx, mode);
            }
        }
    }
}

/// Packed, all responses of a row together, and each alone.
fn agrees(family: &str, onnx: &Onnx, mode: InputMode) {
    let what = format!("{family} {:?} {:?}", onnx.target, onnx.precision);
    let model = onnx.load(mode);
    for row in &rows_of(family, mode) {
        let all: Vec<usize> = (0..row.responses.len()).collect();
        let packed = model.score(row, &all);
        let alone: Vec<f64> = all.iter().flat_map(|&i| model.score(row, &[i])).collect();
        row.check(&format!("{what} packed"), mode, &packed, onnx.tolerance());
        row.check(&format!("{what} alone"), mode, &alone, onnx.tolerance());
    }
}
