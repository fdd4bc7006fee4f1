//! Losses and rewards that are not finite stop a run before its weights change.

use std::fs;
use std::path::Path;

use seeward_models::checkpoint::{Checkpoint, TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::tokenizer::{Specials, Tokenizer};
use seeward_train::config::Config;
use seeward_train::data::loader::{Preprocessors, prepare};
use seeward_train::data::rows::Rows;
use seeward_train::model::setup::Start;
use seeward_train::step::schedule::Rates;
use seeward_train::step::trainer::Trainer;
use tch::Device;

use crate::support::{Run, golden, weights};

#[test]
fn the_rows_are_named_and_the_last_checkpoint_remains() {
    // The first step moves the weights so far that every later result is NaN or infinite.
    let run = Run::new(
        "algorithm: sft\nlr_scheduler_type: constant\nlearning_rate: 1.0e+30\nshuffle: false\nsave_steps: 1",
    );
    let rows = golden("train/pairwise.jsonl");
    let stderr = run.refuse(&[]);
    assert!(stderr.contains("error: step 2: the loss is "), "{stderr}");
    let places: Vec<_> = (5..=8)
        .map(|line| format!("{}:{line}", rows.display()))
        .collect();
    assert!(stderr.contains(&places.join(", ")), "{stderr}");
    for line in [4, 9] {
        assert!(
            !stderr.contains(&format!("{}:{line}", rows.display())),
            "{stderr}"
        );
    }
    assert_eq!(run.names("checkpoint"), ["checkpoint-1"]);
    assert_eq!(run.metrics().len(), 1);
    // A resumed run fails at the same step: the weights were not changed.
    let before = weights(&run.output().join("checkpoint-1"));
    assert!(run.refuse(&[]).contains("error: step 2: the loss is "));
    assert_eq!(weights(&run.output().join("checkpoint-1")), before);
}

#[test]
fn weights_without_finite_rewards_are_not_saved() {
    let run = Run::new("lr_scheduler_type: constant\nlearning_rate: 1.0e+30\nsave_steps: 1");
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains("the rewards of this row are not finite: "),
        "{stderr}"
    );
    assert!(stderr.contains("pairwise.jsonl:"), "{stderr}");
    assert_eq!(run.names("checkpoint"), [""; 0]);
    assert_eq!(run.names("."), [""; 0]);
}

/// Writes the golden model with NaN in the embeddings of `token`.
fn poisoned(folder: &Path, token: &str) {
    let model = golden("models/qwen2");
    for entry in fs::read_dir(&model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let ids = Tokenizer::open(&model)
        .unwrap()
        .encode(token, Specials::AsText)
        .unwrap();
    let mut tensors = weights(&model);
    let table = tensors
        .get_mut("language_model.model.embed_tokens.weight")
        .unwrap();
    let checkpoint = Checkpoint::open(&model).unwrap();
    let shape = |name: &str| checkpoint.info(name).unwrap().shape.clone();
    let width = shape("language_model.model.embed_tokens.weight")[1];
    for id in ids {
        table[id as usize * width] = f32::NAN;
    }
    let data = tensors
        .iter()
        .map(|(name, values)| TensorData::f32(name, &shape(name), values));
    write_tensors(&folder.join(WEIGHTS_FILE), data.collect()).unwrap();
}

#[test]
fn only_batches_that_are_not_finite_are_named() {
    let folder = tempfile::tempdir().unwrap();
    poisoned(folder.path(), "~");
    let rows = folder.path().join("rows.jsonl");
    let row = |prompt| format!(r#"{{"prompt": "{prompt}", "chosen": "yes", "rejected": "no"}}"#);
    let lines = ["is it?", "is it not?", "~", "is it?"].map(row).join("\n");
    fs::write(&rows, lines).unwrap();
    let run = Run::new(&format!(
        "dataset_path: {}\nmodel_name_or_path: {}\nshuffle: false\n\
         per_device_train_batch_size: 1\ngradient_accumulation_steps: 4",
        rows.display(),
        folder.path().display(),
    ));
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains("error: step 1: the loss is NaN "),
        "{stderr}"
    );
    let (file, named) = (
        rows.display().to_string(),
        stderr.matches("rows.jsonl:").count(),
    );
    assert!(
        stderr.contains(&format!("{file}:3 ")) && named == 1,
        "{stderr}"
    );
}

#[test]
fn a_step_that_fails_leaves_the_weights_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    poisoned(folder.path(), "~");
    let rows = folder.path().join("rows.jsonl");
    let row = |prompt| format!(r#"{{"prompt": "{prompt}", "chosen": "yes", "rejected": "no"}}"#);
    fs::write(&rows, ["is it?", "~"].map(row).join("\n")).unwrap();
    let config = Config {
        model_name_or_path: folder.path().display().to_string(),
        ..Config::default()
    };
    let rows = Rows::pairs(&rows, None).unwrap();
    let start = Start::load(&config, None, Device::Cpu).unwrap();
    let preprocessors = Preprocessors {
        main: Some(&start.preprocessors.main),
        text: None,
    };
    let batches = [[0], [1]].map(|row| prepare(&rows, preprocessors, &row).unwrap());
    let mut trainer = Trainer::new(&config, start.models, start.parameters);
    let bits = |trainer: &Trainer| -> Vec<Vec<u8>> {
        let data = trainer.parameters.data();
        data.iter()
            .map(|tensor| (tensor.bytes)().into_owned())
            .collect()
    };
    let before = bits(&trainer);
    let rates = Rates {
        main: 1.0,
        text: 1.0,
    };
    trainer.step(&batches, rates).unwrap_err();
    assert!(bits(&trainer) == before && trainer.optimizer.steps().is_empty());
    // The first row alone does change them.
    trainer.step(&batches[..1], rates).unwrap();
    assert!(bits(&trainer) != before);
}
