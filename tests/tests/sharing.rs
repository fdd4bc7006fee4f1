//! What is computed once gives the numbers of what is computed again and again: loss and gradients of the published
//! schedule (`share_computation: false`) and of ours.
//!
//! Tolerances: both schedules add the same products in another order, which fp32 rounds differently by some 1e-7 of the
//! largest of them. Ten times that for a loss, a hundred times for a gradient, which is a longer sum, is still far below
//! any wrong formula.

use std::collections::BTreeMap;
use std::path::Path;

use seeward_models::config::Config as ModelConfig;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden;
use seeward_train::batch::Inputs;
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::Rows;
use seeward_train::loader::{Batch, Views, prepare};
use seeward_train::setup::Start;
use seeward_train::trainer::{Measures, Rates, Trainer};
use tch::{Device, Kind, Tensor};

const LOSS: Tolerance = Tolerance {
    absolute: 0.0,
    relative: 1e-6,
};

/// What one step saw and did.
struct Step {
    batch: Batch,
    measures: Measures,
    gradients: BTreeMap<String, Vec<f64>>,
}

/// One step at rate 0 on the golden rows.
fn step(name: &str, settings: impl FnOnce(&mut Config)) -> Step {
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
    let rows = Rows::pairs(&golden::path("train/pairwise.jsonl"), None).expect("golden rows");
    let start = Start::load(&config, None, Device::Cpu).expect("golden model");
    let views = Views {
        main: Some(&start.views.main),
        text: start.views.text.as_ref(),
    };
    let batch = prepare(&rows, views, &[0, 1, 2, 3]).expect("golden batch");
    let mut trainer = Trainer::new(&config, start.models, start.parameters);
    let rates = Rates {
        main: 0.0,
        text: 0.0,
    };
    let batches = [batch];
    let measures = trainer.step(&batches, rates).expect("finite");
    let gradient = |(name, tensor): (&str, &Tensor)| (name.to_owned(), values(&tensor.grad()));
    let gradients = trainer.parameters.trainable().map(gradient).collect();
    let [batch] = batches;
    Step {
        batch,
        measures,
        gradients,
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

#[test]
fn sharing_changes_nothing_but_rounding() {
    for name in ["internlm2", "qwen2"] {
        for algorithm in [Algorithm::Standard, Algorithm::ShortcutAware] {
            let shared = step(name, |config| config.algorithm = algorithm);
            let plain = step(name, |config| {
                config.algorithm = algorithm;
                config.share_computation = false;
            });
            same(name, &shared, &plain);
            less_work(name, &shared.batch, &plain.batch);
        }
    }
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
        inputs.forest.rows,
        inputs.tiles(),
        inputs.forest.used_tokens,
    )
}
