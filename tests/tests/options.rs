//! Options of training, on the tiny golden models: activation checkpointing, low-rank additions, drop path, margins.

use std::collections::BTreeMap;
use std::path::Path;

use seeward_tests::golden;
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::loader::{Batch, Preprocessors, prepare};
use seeward_train::data::rows::Rows;
use seeward_train::model::setup::Start;
use seeward_train::step::measures::Measures;
use seeward_train::step::schedule::Rates;
use seeward_train::step::trainer::Trainer;
use tch::{Device, Kind, Tensor};

/// A trainer, and the batches of one step: two of two pairs each.
struct Training {
    trainer: Trainer,
    batches: Vec<Batch>,
}

impl Training {
    fn new(model: &str, settings: impl FnOnce(&mut Config)) -> Self {
        tch::set_num_threads(1);
        let folder = golden::path(&format!("models/{model}"));
        let mut config = Config {
            model_name_or_path: folder.display().to_string(),
            bias_model_path: Some(folder.display().to_string()),
            algorithm: Algorithm::ShortcutAware,
            max_length: 4096,
            ..Config::default()
        };
        settings(&mut config);
        let path = golden::path("train/pairwise.jsonl");
        let rows = Rows::pairs(Path::new(&path), None).expect("golden rows");
        let start = Start::load(&config, None, Device::Cpu).expect("golden model");
        let preprocessors = Preprocessors {
            main: Some(&start.preprocessors.main),
            text: start.preprocessors.text.as_ref(),
        };
        let batches =
            [[0, 1], [2, 3]].map(|rows_| prepare(&rows, preprocessors, &rows_).expect("batch"));
        Self {
            trainer: Trainer::new(&config, start.models, start.parameters),
            batches: batches.into(),
        }
    }

    /// The measures of a step that changes no weight.
    fn measures(&mut self) -> Measures {
        let still = Rates {
            main: 0.0,
            text: 0.0,
        };
        self.trainer.step(&self.batches, still).expect("finite")
    }

    /// Takes a step at `rate`; loss, and gradients by name.
    fn step(&mut self, rate: f64) -> (f64, BTreeMap<String, Tensor>) {
        let rates = Rates {
            main: rate,
            text: rate,
        };
        let measures = self.trainer.step(&self.batches, rates).expect("finite");
        let gradients = self.trainer.parameters.trainable();
        let gradients = gradients
            .map(|(name, tensor)| (name.to_owned(), tensor.grad()))
            .filter(|(_, gradient)| gradient.defined());
        (measures.loss, gradients.collect())
    }
}

/// The measures of a step on rows with margins, compared with the same rows without.
#[test]
fn a_margin_column_reaches_both_branches() {
    let plain = Training::new("qwen2", |_| ()).measures();
    let mut asking = Training::new("qwen2", |_| ());
    asking
        .batches
        .iter_mut()
        .for_each(|batch| batch.margins = Some(vec![50.0, 50.0]));
    let asked = asking.measures();
    for (loss, before) in [
        (asked.loss_main, plain.loss_main),
        (asked.loss_text, plain.loss_text),
    ] {
        // −log σ(d − 50) + log σ(d) is 50 − log(1 + exp(d)) but for rounding, and these margins are small.
        let (loss, before) = (loss.expect("a loss"), before.expect("a loss"));
        assert!((loss - before - 50.0).abs() < 2.0, "{loss} {before}");
    }
    assert_eq!(asked.accuracy, plain.accuracy);
}

/// The same pairs without sharing save no work, and are more tokens.
#[test]
fn a_step_reports_the_work_that_sharing_saves() {
    let measures = |shared| Training::new("qwen2", |c| c.share_computation = shared).measures();
    let (shared, separate) = (measures(true), measures(false));
    assert_eq!(separate.work_saved, Some(0.0));
    let saved = shared.work_saved.expect("work");
    assert!((0.3..0.6).contains(&saved), "{saved}");
    assert!(shared.tokens < separate.tokens);
    let padding = shared.padding_share.expect("tokens");
    assert!((0.0..1.0).contains(&padding), "{padding}");
}

/// Mean and deviation of both branches' rewards, computed from the batches' rewards.
#[test]
fn rewards_have_a_mean_and_a_deviation() {
    let mut training = Training::new("qwen2", |_| ());
    let measures = training.measures();
    let rewards = |batch: &Batch| {
        let inputs = batch.main.as_ref().expect("main inputs");
        tch::no_grad(|| training.trainer.models.main.rewards(inputs)).expect("rewards")
    };
    let all = Tensor::cat(
        &[rewards(&training.batches[0]), rewards(&training.batches[1])],
        0,
    );
    let [main, text] = measures
        .reward_scales()
        .map(|scale| scale.expect("measured"));
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
    close(main.mean, all.mean(Kind::Double).double_value(&[]));
    close(
        main.std,
        all.to_kind(Kind::Double).std(false).double_value(&[]),
    );
    assert_ne!(main, text);
}

fn same_bits(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    assert!(!a.is_empty() && a.keys().eq(b.keys()));
    for (name, gradient) in a {
        assert!(*gradient == b[name], "{name}");
    }
}

#[test]
fn activation_checkpointing_changes_no_bit() {
    for model in ["qwen2", "internlm2", "phi3", "vit6b"] {
        for (frozen_vision, bf16) in [(false, false), (true, false), (false, true)] {
            let step = |checkpointing| {
                let settings = |config: &mut Config| {
                    config.grad_checkpoint = checkpointing;
                    config.freeze_backbone = frozen_vision;
                    config.bf16 = bf16;
                };
                Training::new(model, settings).step(0.0)
            };
            let ((plain_loss, plain), (loss, gradients)) = (step(false), step(true));
            assert_eq!(loss, plain_loss, "{model}");
            same_bits(&gradients, &plain);
        }
    }
}

/// Only the language model trains: the first block's input carries no gradient, its weights do.
#[test]
fn activation_checkpointing_reaches_the_first_block() {
    let step = |checkpointing| {
        let settings = |config: &mut Config| {
            config.grad_checkpoint = checkpointing;
            (config.freeze_backbone, config.freeze_mlp) = (true, true);
        };
        Training::new("qwen2", settings).step(0.0).1
    };
    let gradients = step(true);
    same_bits(&gradients, &step(false));
    assert!(gradients.contains_key("language_model.model.layers.0.self_attn.q_proj.weight"));
}

/// Dropout keeps the same inputs of an addition when its block is recomputed. The first step moves B from zero, so that A
/// trains in the second.
#[test]
fn activation_checkpointing_changes_no_bit_of_low_rank_additions() {
    for (vision, text, bf16) in [
        (true, true, false),
        (false, true, true),
        (true, false, false),
    ] {
        let steps = |checkpointing| {
            let settings = |config: &mut Config| {
                config.grad_checkpoint = checkpointing;
                (config.use_backbone_lora, config.use_llm_lora) = (vision, text);
                (config.lora_r, config.lora_dropout, config.bf16) = (4, 0.3, bf16);
            };
            let mut training = Training::new("internlm2", settings);
            [1e-3, 0.0].map(|rate| training.step(rate))
        };
        for ((plain_loss, plain), (loss, gradients)) in steps(false).iter().zip(&steps(true)) {
            assert_eq!(loss, plain_loss);
            same_bits(gradients, plain);
        }
        let moves = |(name, gradient): (&String, &Tensor)| {
            name.contains("lora_A") && gradient.abs().max().double_value(&[]) > 0.0
        };
        assert!(steps(true)[1].1.iter().any(moves));
    }
}
