//! Options of training: activation checkpointing, low-rank additions and drop path, on the tiny golden models.

use std::collections::BTreeMap;
use std::path::Path;

use seeward_tests::golden;
use seeward_train::config::{Algorithm, Config};
use seeward_train::data::Rows;
use seeward_train::loader::{Batch, Views, prepare};
use seeward_train::setup::Start;
use seeward_train::trainer::{Rates, Trainer};
use tch::{Device, Tensor};

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
        let views = Views {
            main: Some(&start.views.main),
            text: start.views.text.as_ref(),
        };
        let batches = [[0, 1], [2, 3]].map(|rows_| prepare(&rows, views, &rows_).expect("batch"));
        Self {
            trainer: Trainer::new(&config, start.models, start.parameters),
            batches: batches.into(),
        }
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

/// Only the text embeddings' side trains: the first block's input carries no gradient, its own weights do.
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

/// What dropout has left of an addition's inputs is the same when its block runs again; the first step moves B from zero,
/// so that A learns in the second.
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
