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
mod steps;
mod training;

use seeward_models::config::Config;
use seeward_models::forest::{Document, Forest};
use seeward_models::hash::hash;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, ImageSettings, Pixels};
use seeward_models::kinds::{InputMode, Precision, Target};

use engines::{LibTorch, Onnx};
use golden::{families, is_jpeg, model, rows, rows_of};
use seeward_runtime::Options;
use seeward_tests::compare::{Tolerance, assert_close};

const MODES: [InputMode; 3] = [InputMode::Full, InputMode::TextOnly, InputMode::ImageOnly];
const TOLERANCE: f64 = 1e-4;

#[test]
fn token_ids_and_pixels_are_those_of_the_family() {
    for family in &families() {
        let (torch, config) = (
            LibTorch::load(family, InputMode::Full, true),
            Config::open(&model(family)).unwrap(),
        );
        for row in rows(family) {
            for (index, response) in row.responses.iter().enumerate() {
                assert_eq!(
                    torch.conversation(&row, index).ids,
                    response.ids,
                    "{family}: {:?}, {:?}",
                    row.prompt,
                    response.text
                );
            }
            for (path, (extent, hashed)) in row.images.iter().zip(&row.extents) {
                let file = std::fs::read(path).unwrap();
                let image =
                    image::decode_with(&file, DEFAULT_MAX_PIXELS, config.transparency).unwrap();
                let pixels = config.images.cut(&image).unwrap();
                assert_eq!(pixels.extent(), *extent, "{family}: {path:?}");
                let same = hash(bytes(&pixels, &config.images)) == *hashed;
                assert!(same || is_jpeg(path), "{family}: {path:?}");
            }
        }
    }
}

/// The pixels of tiles, or of a whole image row by row.
fn bytes(pixels: &Pixels, settings: &ImageSettings) -> Vec<u8> {
    let (grid, settings) = match (pixels, settings) {
        (Pixels::Grid(grid), ImageSettings::Grid(settings)) => (grid, settings),
        (Pixels::Tiles(tiles), _) => return tiles.iter().copied().collect(),
        _ => panic!("settings of a grid"),
    };
    let (patch, merge) = (settings.patch as usize, settings.merge as usize);
    let token = patch * merge;
    let mut bytes = Vec::new();
    for (y, x, channel) in ndarray::indices((grid.rows * token, grid.columns * token, 3)) {
        let token_index = y / token * grid.columns + x / token;
        let inside = y % token / patch * merge + x % token / patch;
        let place = channel * patch * patch + y % patch * patch + x % patch;
        bytes.push(grid.patches[[0, token_index * merge * merge + inside, place]]);
    }
    bytes
}

/// The angle of every pair of a head at every token.
#[test]
fn positions_are_those_of_the_family() {
    for (family, sizes, takes_turns) in [
        ("qwen2_vl", [2, 3, 3], false),
        ("qwen2_5_vl", [2, 3, 3], false),
        ("qwen3_vl", [6, 5, 5], true),
    ] {
        let torch = LibTorch::load(family, InputMode::Full, true);
        let rope = Config::open(&model(family)).unwrap().text.rope;
        let axes: Vec<usize> = match takes_turns {
            false => (0..3).flat_map(|axis| vec![axis; sizes[axis]]).collect(),
            true => [[0, 1, 2].repeat(5), vec![0]].concat(),
        };
        for row in rows(family) {
            let conversation = torch.conversation(&row, 0);
            let image_rows: Vec<i64> = (0..conversation.image_tokens.len() as i64).collect();
            let document = Document {
                branches: vec![&conversation],
                image_rows,
            };
            let forest = Forest::new(&[vec![&document]], &rope).unwrap();
            let table = rope.tables(&forest.rope).sin;
            let Some(expected) = &row.responses[0].positions else {
                assert!(row.images.is_empty(), "{family}: {:?}", row.prompt);
                continue;
            };
            for (token, &entry) in forest.position_ids.iter().enumerate() {
                for (pair, &axis) in axes.iter().enumerate() {
                    let exponent = -2.0 * pair as f64 / rope.head_dim as f64;
                    let angle = expected[axis][token] as f64 * rope.theta.powf(exponent);
                    let got = f64::from(table[[entry as usize, pair]]);
                    assert!(
                        (got - angle.sin()).abs() < 1e-4,
                        "{family}: {:?}, token {token}, pair {pair}",
                        row.prompt
                    );
                }
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

/// Rows with images of different sizes, with two images and with none. A second call finds the images in the cache.
#[test]
fn rows_score_together_as_alone() {
    for family in &families() {
        let onnx = Onnx::export(family, Target::Cpu, Precision::Fp32);
        let options = Options::default().image_cache_bytes(1 << 30);
        let (cached, alone) = (onnx.load_with(options), onnx.load(InputMode::Full));
        let rows = rows(family);
        let (together, _) = cached.score_together(&rows);
        let (again, found) = cached.score_together(&rows);
        assert_eq!(again, together, "{family}");
        let images: usize = rows.iter().map(|row| row.images.len()).sum();
        assert_eq!(found > 0, images > 0, "{family}");
        let each = rows.iter().flat_map(|row| {
            let responses = 0..row.responses.len();
            responses.flat_map(|index| alone.score(row, &[index]))
        });
        let tolerance = Tolerance {
            absolute: 1e-5,
            relative: 1e-5,
        };
        assert_close(family, &together, &each.collect::<Vec<_>>(), tolerance);
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
