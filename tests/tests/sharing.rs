//! Shared computation gives the values of repeated computation: loss and gradients of the published schedule
//! (`share_computation: false`) and of the shared one.
//!
//! Tolerances: both schedules add the same products in another order, which fp32 rounds differently by some 1e-7 of the
//! largest of them. Ten times that for a loss, a hundred times for a gradient, which is a longer sum, is still far below
//! any wrong formula.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use seeward_models::config::Config as ModelConfig;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden;
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::inputs::Inputs;
use seeward_train::data::loader::{Batch, Preprocessors, prepare};
use seeward_train::data::preprocess::Preprocessor;
use seeward_train::data::rows::Rows;
use seeward_train::libtorch::forward_context::ForwardContext;
use seeward_train::model::branch::Vision;
use seeward_train::model::branches::Branches;
use seeward_train::model::setup::Start;
use seeward_train::step::measures::Measures;
use seeward_train::step::schedule::Rates;
use seeward_train::step::trainer::Trainer;
use tch::{Device, Kind, Tensor};

const LOSS: Tolerance = Tolerance {
    absolute: 0.0,
    relative: 1e-6,
};

/// A trainer and the one batch of all its steps.
struct Training {
    trainer: Trainer,
    batch: [Batch; 1],
    preprocessors: Branches<Preprocessor>,
}

/// The results of one step.
struct Step {
    measures: Measures,
    gradients: BTreeMap<String, Vec<f64>>,
}

fn training(name: &str, settings: impl FnOnce(&mut Config)) -> Training {
    tch::set_num_threads(1);
    let folder = golden::path(&format!("models/{name}"));
    let mut config = Config {
        model_name_or_path: folder.display().to_string(),
        bias_model_path: Some(folder.display().to_string()),
        algorithm: Algorithm::ShortcutAware,
        max_length: 4096,
        ..Config::default()
    };
    settings(&mut config);
    let start = Start::load(&config, None, Device::Cpu).expect("golden model");
    let batch = [batch(&start.preprocessors)];
    let trainer = Trainer::new(&config, start.models, start.parameters);
    Training {
        trainer,
        batch,
        preprocessors: start.preprocessors,
    }
}

/// The first golden rows.
fn batch(preprocessors: &Branches<Preprocessor>) -> Batch {
    let rows = Rows::pairs(&golden::path("train/pairwise.jsonl"), None).expect("golden rows");
    let preprocessors = Preprocessors {
        main: Some(&preprocessors.main),
        text: preprocessors.text.as_ref(),
    };
    prepare(&rows, preprocessors, &[0, 1, 2, 3]).expect("golden batch")
}

impl Training {
    /// One step at a rate of zero.
    fn step(&mut self) -> Step {
        let rates = Rates {
            main: 0.0,
            text: 0.0,
        };
        let measures = self.trainer.step(&self.batch, rates).expect("finite");
        let gradient = |(name, tensor): (&str, &Tensor)| (name.to_owned(), values(&tensor.grad()));
        let gradients = self.trainer.parameters.trainable().map(gradient).collect();
        Step {
            measures,
            gradients,
        }
    }

    fn cache_on_disk(&self, folder: &Path, bytes: usize) {
        for model in self.trainer.models.each() {
            model.cache_on_disk(folder, bytes).expect("a disk");
        }
    }

    /// Tiles that the vision models of both branches have encoded for the cache.
    fn encoded(&self) -> [usize; 2] {
        let models = &self.trainer.models;
        [Some(&models.main), models.text.as_ref()].map(|model| {
            match &model.expect("both branches").vision {
                Vision::Cached(features) => features.encoded(),
                _ => panic!("nothing is kept"),
            }
        })
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).expect("numbers")
}

fn same(what: &str, a: &Step, b: &Step) {
    assert_close(what, &[a.measures.loss], &[b.measures.loss], LOSS);
    assert!(a.gradients.keys().eq(b.gradients.keys()), "{what}");
    for (name, expected) in &b.gradients {
        let scale = expected.iter().fold(0.0, |max, value| value.abs().max(max));
        let tolerance = Tolerance {
            absolute: 1e-8 + 1e-5 * scale,
            relative: 0.0,
        };
        let what = format!("{what}: {name}");
        assert_close(&what, &a.gradients[name], expected, tolerance);
    }
}

fn same_bits(a: &Step, b: &Step) {
    assert_eq!(a.measures, b.measures);
    assert_eq!(a.gradients, b.gradients);
}

#[test]
fn sharing_changes_nothing_but_rounding() {
    for name in ["internlm2", "qwen2"] {
        for algorithm in [Algorithm::Standard, Algorithm::ShortcutAware] {
            let mut shared = training(name, |config| config.algorithm = algorithm);
            let mut plain = training(name, |config| {
                config.algorithm = algorithm;
                config.share_computation = false;
            });
            same(name, &shared.step(), &plain.step());
            less_work(name, &shared.batch[0], &plain.batch[0]);
        }
    }
}

/// As on a GPU.
#[test]
fn padding_rows_to_a_multiple_changes_nothing_but_rounding() {
    for name in ["internlm2", "qwen2"] {
        let mut plain = training(name, |_| {});
        let mut padded = training(name, |_| {});
        let Branches { main, text } = &mut padded.preprocessors;
        for preprocessor in std::iter::once(main).chain(text) {
            preprocessor.row_multiple = 64;
        }
        padded.batch = [batch(&padded.preprocessors)];
        let [before, after] = [&plain, &padded].map(lengths);
        for (before, after) in before.into_iter().zip(after) {
            assert_ne!(before % 64, 0, "{name}");
            assert_eq!(after, before.next_multiple_of(64), "{name}");
        }
        same(name, &padded.step(), &plain.step());
    }
}

/// The lengths of both branches' rows.
fn lengths(training: &Training) -> [usize; 2] {
    let batch = &training.batch[0];
    [&batch.main, &batch.text].map(|inputs| inputs.as_ref().expect("seen").forest.tokens())
}

/// Four pairs: a prefix and its image once instead of twice, and one white image instead of eight.
fn less_work(name: &str, shared: &Batch, plain: &Batch) {
    let config = ModelConfig::open(Path::new(&golden::path(&format!("models/{name}"))));
    let scaled = config.expect("golden model").text.rope.scaling.is_some();
    let main = |batch: &Batch| seen(batch.main.as_ref());
    let ((documents, tiles, tokens), (plain_documents, plain_tiles, plain_tokens)) =
        (main(shared), main(plain));
    assert_eq!((plain_documents, plain_tiles), (8, 2 * tiles), "{name}");
    if !scaled {
        assert_eq!(documents, 4, "{name}");
        assert!(10 * tokens < 7 * plain_tokens, "{name}");
    }
    if let (Some(shared), Some(plain)) = (&shared.text, &plain.text) {
        assert_eq!((shared.tiles(), plain.tiles()), (1, 8), "{name}");
    }
}

/// Rows, tiles and tokens.
fn seen(inputs: Option<&Inputs>) -> (usize, usize, usize) {
    let inputs = inputs.expect("seen");
    (
        inputs.forest.rows(),
        inputs.tiles(),
        inputs.forest.used_tokens,
    )
}

#[test]
fn a_frozen_vision_model_encodes_every_image_once() {
    for freeze_mlp in [false, true] {
        let freeze = |config: &mut Config| {
            (config.freeze_backbone, config.freeze_mlp) = (true, freeze_mlp);
        };
        let mut plain = training("qwen2", |config| {
            freeze(config);
            config.share_computation = false;
        });
        let mut kept = training("qwen2", freeze);
        let tiles = kept.batch[0].main.as_ref().expect("seen").tiles();
        let first = kept.step();
        same("kept", &first, &plain.step());
        for _ in 0..2 {
            same_bits(&first, &kept.step());
        }
        assert_eq!(kept.encoded(), [tiles, 1]);
        // Cached images are not decoded again.
        let again = batch(&kept.preprocessors);
        let inputs = [again.main.as_ref(), again.text.as_ref()];
        let images = inputs.iter().flatten().flat_map(|inputs| &inputs.images);
        assert!(images.clone().count() > 1 && images.clone().all(|image| image.pixels.is_none()));
        kept.batch = [again];
        same_bits(&first, &kept.step());
    }
}

/// Wherever features are cached, or not at all, and whatever other images are encoded: the same bits.
#[test]
fn features_are_the_same_bits_in_memory_on_the_disk_and_recomputed() {
    let folder = tempfile::tempdir().expect("a folder");
    let bf16 = |memory: usize| {
        training("qwen2", |config| {
            (config.freeze_backbone, config.bf16) = (true, true);
            config.vision_cache_memory = memory;
        })
    };
    let (mut memory, mut nowhere) = (bf16(1 << 30), bf16(0));
    let first = memory.step();
    let tiles = memory.batch[0].main.as_ref().expect("seen").tiles();
    for round in 1..3 {
        same_bits(&first, &nowhere.step());
        // The white image is always cached.
        assert_eq!(nowhere.encoded(), [round * tiles, 1]);
    }
    for expected in [tiles, 0] {
        let mut disk = bf16(0);
        disk.cache_on_disk(folder.path(), 1 << 30);
        for _ in 0..2 {
            same_bits(&first, &disk.step());
        }
        assert_eq!(disk.encoded(), [expected, 1]);
    }
}

#[test]
fn the_disk_cache_is_bounded_and_not_shared_with_other_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = || {
        let files = walk(folder.path());
        (files.len(), files.iter().sum::<u64>())
    };
    let with = |name: &str, bytes: usize| {
        let mut training = training(name, |config| {
            config.freeze_backbone = true;
            config.vision_cache_memory = 0;
        });
        training.cache_on_disk(folder.path(), bytes);
        training.step();
        training.encoded()[0]
    };
    let encoded = with("qwen2", 1 << 30);
    let (count, bytes) = files();
    assert!(count > 1, "{count} files");
    // The tied model has other vision weights.
    assert_eq!(with("qwen2_tied", bytes as usize), encoded);
    assert_eq!(files(), (count, bytes));
    // One byte too few for the last image.
    fs::remove_dir_all(folder.path()).expect("removed");
    with("qwen2", bytes as usize - 1);
    assert_eq!(files().0, count - 1);
}

/// The sizes of all files below a folder.
fn walk(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).expect("a folder");
    let sizes = entries.flat_map(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => walk(&path),
            false => vec![path.metadata().expect("a file").len()],
        }
    });
    sizes.collect()
}

#[test]
fn dropped_paths_depend_on_the_image_and_the_step() {
    let dropping = |config: &mut Config| config.drop_path_rate = 0.5;
    let mut shared = training("qwen2", dropping);
    let mut plain = training("qwen2", |config| {
        dropping(config);
        config.share_computation = false;
    });
    let (first, second) = (shared.step(), shared.step());
    assert_ne!(first.measures.loss, second.measures.loss);
    // One mask per image, however often it is encoded.
    for expected in [first, second] {
        same("dropped", &plain.step(), &expected);
    }
    let mut again = training("qwen2", |config| {
        dropping(config);
        config.grad_checkpoint = true;
    });
    let mut kept = training("qwen2", dropping);
    same_bits(&again.step(), &kept.step());
    let mut other_seed = training("qwen2", |config| {
        dropping(config);
        config.seed += 1;
    });
    let mut never = training("qwen2", |config| config.drop_path_rate = 0.0);
    let losses = [&mut other_seed, &mut never].map(|training| training.step().measures.loss);
    let first = training("qwen2", dropping).step().measures.loss;
    assert!(losses[0] != first && losses[1] != first && losses[0] != losses[1]);
}

#[test]
fn a_frozen_vision_model_drops_no_path() {
    let frozen = |rate: f64| {
        training("qwen2", |config| {
            (config.freeze_backbone, config.drop_path_rate) = (true, rate);
        })
        .step()
    };
    same_bits(&frozen(0.0), &frozen(0.9));
}

/// Over many paths, the share of kept ones is within five deviations of 1 − rate · depth, and their factor compensates
/// for the dropped ones.
#[test]
fn paths_are_dropped_as_often_as_the_depth_says() {
    let config = Config {
        drop_path_rate: 0.4,
        ..Config::default()
    };
    let pass = ForwardContext::new(&config, 3, 0);
    let other_batch = ForwardContext::new(&config, 3, 1);
    for depth in [0.0, 0.5, 1.0] {
        let kept = 1.0 - 0.4 * depth;
        let factor = |place: usize| pass.path_factor(&place.to_string(), "image", depth);
        let factors: Vec<f64> = (0..4000).map(factor).collect();
        assert!(factors.iter().all(|&f| f == 0.0 || f == 1.0 / kept));
        let share = factors.iter().filter(|&&f| f > 0.0).count() as f64 / 4000.0;
        let deviation = (kept * (1.0 - kept) / 4000.0_f64).sqrt();
        assert!((share - kept).abs() <= 5.0 * deviation, "{share} {kept}");
        assert_eq!(other_batch.path_factor("7", "image", depth), factors[7]);
    }
}
