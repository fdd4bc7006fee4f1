//! Training against the published implementation: losses, rewards, shortcut-failure coefficients and gradients of one
//! batch, and six optimizer steps of both algorithms.
//!
//! Tolerances: fp32 noise of 1e-7 on the weights moves the golden losses by up to 2e-6 relative and the gradient norms
//! by 3e-6, so 2e-4 (trajectories) and 1e-3 (one batch) are far above rounding and far below any wrong formula.

use std::path::Path;

use seeward_models::checkpoint::Checkpoint;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_tests::golden::{self, number, numbers};
use seeward_train::config::{Algorithm, Config, SchedulerKind};
use seeward_train::data::inputs::Inputs;
use seeward_train::data::loader::{Batch, Preprocessors, prepare};
use seeward_train::data::rows::Rows;
use seeward_train::data::sampler::Sampler;
use seeward_train::libtorch::parameters::read;
use seeward_train::model::branch::Model;
use seeward_train::model::setup::Start;
use seeward_train::step::loss::Objective;
use seeward_train::step::measures::Measures;
use seeward_train::step::schedule::Rates;
use seeward_train::step::schedule::Schedule;
use seeward_train::step::trainer::Trainer;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const ONE_BATCH: Tolerance = Tolerance {
    absolute: 1e-6,
    relative: 1e-3,
};
const REWARDS: Tolerance = Tolerance {
    absolute: 1e-4,
    relative: 1e-4,
};
const TRAJECTORY: Tolerance = Tolerance {
    absolute: 0.0,
    relative: 2e-4,
};

/// The models with golden training.
const MODELS: [&str; 2] = ["internlm2", "qwen2"];
/// Main and text-only branch of different architectures, with one tokenizer.
const OTHER_BRANCHES: [(&str, &str); 2] = [("internlm2", "vit6b"), ("qwen2", "qwen2_tied")];

struct Training {
    config: Config,
    rows: Rows,
    start: Option<Start>,
}

/// The branches that train.
#[derive(Clone, Copy)]
enum Method {
    Standard,
    /// With the checkpoint's own text-only branch.
    ShortcutAware,
    /// With the text-only branch of another checkpoint.
    ShortcutAwareWith(&'static str),
}

/// The golden run's settings on the model of `name`.
fn training(name: &str, method: Method) -> Training {
    training_with(name, method, |_| {})
}

fn training_with(name: &str, method: Method, settings: impl FnOnce(&mut Config)) -> Training {
    tch::set_num_threads(1);
    let folder = |name: &str| {
        let path = golden::path(&format!("models/{name}"));
        path.display().to_string()
    };
    let (algorithm, text_only) = match method {
        Method::Standard => (Algorithm::Standard, None),
        Method::ShortcutAware => (Algorithm::ShortcutAware, None),
        Method::ShortcutAwareWith(other) => (Algorithm::ShortcutAware, Some(folder(other))),
    };
    let mut config = Config {
        bias_model_path: text_only,
        model_name_or_path: folder(name),
        dataset_path: golden::path("train/pairwise.jsonl").display().to_string(),
        algorithm,
        freeze_backbone: true,
        max_length: 4096,
        max_steps: 6,
        per_device_train_batch_size: 4,
        shuffle: false,
        learning_rate: 1e-3,
        weight_decay: 0.05,
        adam_beta2: 0.98,
        warmup_ratio: 0.34,
        lr_scheduler_type: SchedulerKind::Cosine,
        ..Config::default()
    };
    settings(&mut config);
    let rows = Rows::pairs(Path::new(&config.dataset_path), None).expect("golden rows");
    let start = Some(Start::load(&config, None, Device::Cpu).expect("golden model"));
    Training {
        config,
        rows,
        start,
    }
}

/// The golden files of a model and their contents.
fn runs(name: &'static str) -> [(&'static str, Method); 2] {
    [
        ("standard", Method::Standard),
        ("robust", Method::ShortcutAwareWith(name)),
    ]
}

/// The suffix of the golden names of the main branch's rewards.
fn suffix(method: Method) -> &'static str {
    match method {
        Method::Standard => "",
        _ => "_main",
    }
}

impl Training {
    fn batches(&self, start: &Start, numbers: &[Vec<usize>]) -> Vec<Batch> {
        let preprocessors = Preprocessors {
            main: Some(&start.preprocessors.main),
            text: start.preprocessors.text.as_ref(),
        };
        numbers
            .iter()
            .map(|numbers| prepare(&self.rows, preprocessors, numbers).expect("golden batch"))
            .collect()
    }

    fn first_batch(&self) -> Batch {
        let start = self.start.as_ref().expect("unused");
        self.batches(start, &[vec![0, 1, 2, 3]]).remove(0)
    }

    fn run(&mut self, steps: usize, after: impl Fn(usize, &Trainer, &[Batch], &Measures)) {
        let start = self.start.take().expect("unused");
        let sampler = Sampler::new(&self.config, self.rows.count()).expect("a sampler");
        let schedule = Schedule::new(&self.config, sampler.total_steps);
        let batches: Vec<_> = sampler
            .steps(0..steps)
            .map(|numbers| self.batches(&start, &numbers))
            .collect();
        let mut trainer = Trainer::new(&self.config, start.models, start.parameters);
        for (step, batches) in batches.iter().enumerate() {
            let rate = schedule.rate(step);
            let measures = trainer
                .step(
                    batches,
                    Rates {
                        main: rate,
                        text: rate,
                    },
                )
                .expect("finite");
            after(step, &trainer, batches, &measures);
        }
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double)).expect("one dimension")
}

fn one_batch(golden: &Value, mut training: Training, main: &str) {
    // The first step's rate is 0: weights stay, so rewards can be read afterwards.
    training.run(1, |_, trainer, batches, measures| {
        assert_close(
            "loss",
            &[measures.loss],
            &[number(&golden["loss"])],
            ONE_BATCH,
        );
        if let Some(total) = golden.get("total_grad_norm") {
            assert_close(
                "total_grad_norm",
                &[measures.grad_norm.expect("trained")],
                &[number(total)],
                ONE_BATCH,
            );
        }
        if let Some(weights) = golden.get("shortcut_weights") {
            let weights = numbers(weights);
            let mean = weights.iter().sum::<f64>() / weights.len() as f64;
            assert_close(
                "sfc",
                &[measures.sfc_mean.expect("shortcut-aware")],
                &[mean],
                ONE_BATCH,
            );
        }
        check_rewards(golden, trainer, &batches[0], main);
        // The optimizer may have clipped the gradients in the weights.
        trainer.backward(batches).expect("trained");
        gradients(&golden["grad_norms"], trainer);
    });
}

/// Rewards of both branches and every pair's coefficient, as far as the golden file has them.
fn check_rewards(golden: &Value, trainer: &Trainer, batch: &Batch, suffix: &str) {
    let rewards = |model: &Model, inputs: &Option<Inputs>| {
        tch::no_grad(|| model.rewards(inputs.as_ref().expect("seen"))).expect("runs")
    };
    let main = rewards(&trainer.models.main, &batch.main);
    sides(golden, &main, suffix);
    let Some(text) = &trainer.models.text else {
        return;
    };
    let text = rewards(text, &batch.text);
    sides(golden, &text, "_bias");
    if let Some(weights) = golden.get("shortcut_weights") {
        let loss = Objective::default().shortcut_aware(&main, &text, None);
        let sfc = loss.sfc.expect("shortcut-aware");
        assert_close(
            "shortcut_weights",
            &values(&sfc),
            &numbers(weights),
            ONE_BATCH,
        );
    }
}

fn sides(golden: &Value, got: &Tensor, suffix: &str) {
    for (side, name) in ["chosen", "rejected"].iter().enumerate() {
        let name = format!("rewards_{name}{suffix}");
        let Some(expected) = golden.get(&name) else {
            continue;
        };
        let got = values(&got.view([-1, 2]).select(1, side as i64));
        assert_close(&name, &got, &numbers(expected), REWARDS);
    }
}

/// Every golden tensor has its norm, and no other tensor trains.
fn gradients(golden: &Value, trainer: &Trainer) {
    let golden = golden.as_object().expect("norms by name");
    let trained: Vec<&str> = trainer
        .parameters
        .trainable()
        .map(|(name, _)| name)
        .collect();
    let mut expected: Vec<&str> = golden.keys().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(trained, expected, "trainable tensors");
    for (name, tensor) in trainer.parameters.trainable() {
        let norm = tensor.grad().norm().double_value(&[]);
        assert_close(name, &[norm], &[number(&golden[name])], ONE_BATCH);
    }
}

/// The golden set has the complete gradients of the smaller tensors.
fn whole_gradients(file: &str, training: &mut Training) {
    let golden = Checkpoint::open_file(&golden::path(file)).expect("golden gradients");
    training.run(1, |_, trainer, batches, _| {
        trainer.backward(batches).expect("trained");
        for (name, _) in golden.tensors() {
            let expected = read(&golden, name, Device::Cpu)
                .expect("golden gradient")
                .view(-1);
            let got = trainer.parameters.get(name).expect(name).grad().view(-1);
            let scale = expected.abs().max().double_value(&[]);
            let tolerance = Tolerance {
                absolute: 1e-6 + 1e-4 * scale,
                relative: 0.0,
            };
            assert_close(name, &values(&got), &values(&expected), tolerance);
        }
    });
}

#[test]
fn gradients_element_by_element() {
    for name in MODELS {
        for (file, method) in runs(name) {
            let file = format!("train/{name}/{file}_grads.safetensors");
            whole_gradients(&file, &mut training(name, method));
        }
    }
}

fn trajectory(file: &str, mut training: Training, main: &str) {
    let golden = golden::json(file);
    let golden = &golden["trajectory"];
    let first_batch = training.first_batch();
    training.run(6, |step, trainer, _, measures| {
        let expected = &golden["steps"][step];
        assert_close(
            &format!("loss of step {step}"),
            &[measures.loss],
            &[number(&expected["loss"])],
            TRAJECTORY,
        );
        let norm = measures.grad_norm.expect("trained");
        assert_close(
            &format!("grad_norm of step {step}"),
            &[norm],
            &[number(&expected["grad_norm"])],
            TRAJECTORY,
        );
        if step == 5 {
            for (name, tensor) in trainer.parameters.trainable() {
                let expected = number(&golden["param_norms_after"][name]);
                assert_close(
                    name,
                    &[tensor.norm().double_value(&[])],
                    &[expected],
                    TRAJECTORY,
                );
            }
            // The weights have had their last update: the golden set scores the first batch once more.
            check_rewards(
                &golden["after_last_step_on_first_batch"],
                trainer,
                &first_batch,
                main,
            );
        }
    });
}

#[test]
fn one_batch_of_every_model() {
    for name in MODELS {
        for (file, method) in runs(name) {
            let golden = golden::json(&format!("train/{name}/{file}.json"));
            let suffix = suffix(method);
            one_batch(&golden["one_batch"], training(name, method), suffix);
            let all = training_with(name, method, |config| config.freeze_backbone = false);
            one_batch(&golden["one_batch_all_trainable"], all, suffix);
        }
    }
}

#[test]
fn one_batch_of_a_checkpoint_with_both_branches() {
    let golden = golden::json("train/qwen2_dual/robust.json");
    let both = training("qwen2_dual", Method::ShortcutAware);
    one_batch(&golden["one_batch"], both, "_main");
}

#[test]
fn trajectory_of_every_model() {
    for name in MODELS {
        for (file, method) in runs(name) {
            let file = format!("train/{name}/{file}.json");
            trajectory(&file, training(name, method), suffix(method));
        }
    }
}

#[test]
fn a_text_only_branch_of_another_architecture() {
    for (name, other) in OTHER_BRANCHES {
        let (file, method) = (
            format!("train/{name}/robust_other_bias.json"),
            Method::ShortcutAwareWith(other),
        );
        one_batch(
            &golden::json(&file)["one_batch"],
            training(name, method),
            "_main",
        );
        trajectory(&file, training(name, method), "_main");
    }
}

/// bf16 keeps 8 bits: every rounding is off by up to 2^-9 relative, and a pass has some forty in a row, of random sign,
/// which makes 2^-9 · √40 ≈ 1.2 %. Rewards are near 1, and a loss moves at most as far as two of them together.
const BF16: Tolerance = Tolerance {
    absolute: 0.025,
    relative: 0.0,
};

#[test]
fn bf16_follows_the_fp32_trajectory() {
    for (file, method) in runs("qwen2") {
        let golden = golden::json(&format!("train/qwen2/{file}.json"));
        let steps = &golden["trajectory"]["steps"];
        training_with("qwen2", method, |config| config.bf16 = true).run(
            6,
            |step, _, _, measures| {
                let what = format!("{file}: loss of step {step}");
                let expected = number(&steps[step]["loss"]);
                eprintln!("{what}: {} {expected}", measures.loss);
                assert_close(&what, &[measures.loss], &[expected], BF16);
                assert!(
                    (measures.loss - expected).abs() > 1e-6,
                    "{what}: not in bf16"
                );
            },
        );
    }
}

/// The angle between a tensor's gradient and the published one: errors of 1.2 % of random sign in every element turn it
/// by as much, forward and backward by 2.4 %: a cosine of 0.9997. Where a sum over tokens cancels half of its terms, the
/// error counts twice as much or more: 0.998 allows 6 %.
#[test]
fn bf16_gradients_reach_the_masters_in_fp32() {
    for (file, method) in runs("qwen2") {
        let path = golden::path(&format!("train/qwen2/{file}_grads.safetensors"));
        let golden = Checkpoint::open_file(&path).expect("golden gradients");
        training_with("qwen2", method, |config| config.bf16 = true).run(1, |_, trainer, _, _| {
            for (name, _) in golden.tensors() {
                let expected = read(&golden, name, Device::Cpu).expect("golden gradient");
                let got = trainer.parameters.get(name).expect(name).grad();
                assert_eq!(got.kind(), Kind::Float, "{name}");
                let cosine = (&got * &expected).sum(Kind::Double) / (got.norm() * expected.norm());
                let cosine = cosine.double_value(&[]);
                assert!(cosine > 0.998, "{file}: {name}: {cosine}");
            }
        });
    }
}
