use super::*;

/// The required keys.
const BASE: &str = "dataset_path: d.jsonl\noutput_dir: out\n";

fn read(yaml: &str, sets: &[&str]) -> Result<(Config, Vec<String>)> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::from_yaml(&format!("{BASE}{yaml}"), "c.yaml", &sets)
}

fn config(yaml: &str) -> Config {
    read(yaml, &[]).unwrap().0
}

fn error(yaml: &str, sets: &[&str]) -> String {
    read(yaml, sets).unwrap_err().to_string()
}

#[test]
fn absent_keys_have_the_published_defaults() {
    let config = config("");
    let expected = Config {
        dataset_path: "d.jsonl".into(),
        output_dir: "out".into(),
        ..Config::default()
    };
    assert_eq!(config, expected);
    assert_eq!(
        (
            config.learning_rate,
            config.adam_beta2,
            config.max_grad_norm
        ),
        (5e-5, 0.999, 1.0)
    );
    assert_eq!(
        (config.max_length, config.max_steps, config.num_train_epochs),
        (8192, -1, 3.0)
    );
    assert_eq!(
        (
            config.conv_style,
            config.use_thumbnail,
            config.force_image_size
        ),
        (None, None, None)
    );
}

/// The settings of the published experiments, without those of unsupported features.
const PUBLISHED: &str = "
model_name_or_path: models/InternVL2-1B
bias_model_path: models/InternVL2-1B
conv_style: Hermes-2
max_length: 4096
freeze_llm: False
freeze_backbone: True
freeze_mlp: False
use_backbone_lora: False
use_llm_lora: 0
grad_checkpoint: False
drop_path_rate: 0.0
force_image_size: 448
down_sample_ratio: 0.5
dynamic_image_size: True
use_thumbnail: \"True\"
max_dynamic_patch: 6
normalize_type: imagenet
ps_version: v2
num_train_epochs: 1
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
learning_rate: 1e-5
adam_beta2: '0.98'
weight_decay: 0.05
lr_scheduler_type: cosine
warmup_ratio: 0.1
save_strategy: steps
save_steps: 1e2
save_total_limit: 10
logging_steps: 10
bf16: True
optim: adamw_torch
eval_strategy: no
report_to: tensorboard
deepspeed: zero_stage3.json
tf32: True
gradient_checkpointing: true
remove_unused_columns: False
dataloader_num_workers: 4
ddp_timeout: 9000
";

#[test]
fn a_published_config_works() {
    let (config, notices) = read(PUBLISHED, &[]).unwrap();
    assert_eq!(config.algorithm, Algorithm::ShortcutAware);
    assert_eq!((config.learning_rate, config.adam_beta2), (1e-5, 0.98));
    assert_eq!(
        (config.save_steps, config.save_total_limit),
        (100, Some(10))
    );
    assert_eq!(
        (config.use_thumbnail, config.max_dynamic_patch),
        (Some(true), Some(6))
    );
    assert!(config.bf16 && config.tf32);
    assert!(config.freeze_backbone && !config.freeze_llm && config.tensorboard());
    assert_eq!(
        notices,
        [
            "deepspeed: not used: several processes divide the optimizer's state by themselves (docs/scaling.md)",
            "keys of other frameworks, not used: dataloader_num_workers, gradient_checkpointing, \
             remove_unused_columns"
        ]
    );
}

#[test]
fn the_algorithm_follows_the_text_only_branch() {
    let of = |yaml| config(yaml).algorithm;
    assert_eq!(of(""), Algorithm::Standard);
    assert_eq!(of("bias_model_path: b"), Algorithm::ShortcutAware);
    assert_eq!(
        of("bias_model_path: b\nalgorithm: null"),
        Algorithm::ShortcutAware
    );
    assert_eq!(
        of("bias_model_path: b\nalgorithm: standard"),
        Algorithm::Standard
    );
    assert_eq!(of("algorithm: sft"), Algorithm::Sft);
    let (_, notices) = read(
        "bias_model_path: b\nalgorithm: sft\ntext_branch_warmup_steps: 3",
        &[],
    )
    .unwrap();
    assert_eq!(notices.len(), 2, "{notices:?}");
}

#[test]
fn sets_override_the_file() {
    let (config, _) = read(
        "learning_rate: 1",
        &[
            "learning_rate=2e-6",
            "output_dir=2024",
            "bf16=False",
            "save_total_limit=null",
            "eval_data={dev: dev.jsonl}",
            "dataset_path=a=b.jsonl",
        ],
    )
    .unwrap();
    assert_eq!(config.learning_rate, 2e-6);
    assert_eq!(
        (config.output_dir.as_str(), config.dataset_path.as_str()),
        ("2024", "a=b.jsonl")
    );
    assert_eq!(config.eval_data["dev"], "dev.jsonl");
}

#[test]
fn the_resolved_config_reads_back_equal() {
    let rich = "eval_data: {b: b.jsonl, a: 'a: #.jsonl'}\nimage_root: '1e5'\nthreads: 2\nvision_select_layer: -4\nseed: 7\nreport_to: [none]";
    for yaml in ["", PUBLISHED, rich, "algorithm: sft"] {
        let config = config(yaml);
        let resolved = config.resolved().unwrap();
        let (again, notices) = Config::from_yaml(&resolved, "r", &[]).unwrap();
        assert_eq!(again, config, "{resolved}");
        assert!(notices.is_empty(), "{notices:?}");
    }
}

#[test]
fn a_null_output_folder_needs_a_set() {
    let yaml = "dataset_path: d\noutput_dir: null";
    let refused = Config::from_yaml(yaml, "c.yaml", &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "c.yaml: output_dir: expected a folder, got nothing: give one with --set output_dir=…"
    );
    let (config, _) = Config::from_yaml(yaml, "c.yaml", &["output_dir=out".into()]).unwrap();
    assert_eq!(config.output_dir, "out");
}

#[test]
fn wrong_types_are_named_with_their_key() {
    for (yaml, expected) in [
        (
            "learning_rate: abc",
            "learning_rate: expected a number, got \"abc\"",
        ),
        (
            "learning_rate: .nan",
            "learning_rate: expected a number, got .nan",
        ),
        (
            "learning_rate: null",
            "learning_rate: expected a number, got null",
        ),
        (
            "seed: 1.5",
            "seed: expected a whole number, zero or more, got 1.5",
        ),
        (
            "save_steps: -1",
            "save_steps: expected a whole number, zero or more, got -1",
        ),
        (
            "max_steps: [1]",
            "max_steps: expected a whole number, got a list",
        ),
        ("shuffle: 2", "shuffle: expected true or false, got 2"),
        (
            "conv_style: 3",
            "conv_style: expected a string or null, got 3",
        ),
        (
            "use_thumbnail: ja",
            "use_thumbnail: expected true or false or null, got \"ja\"",
        ),
        (
            "eval_data: dev.jsonl",
            "eval_data: expected names, each with a string, got \"dev.jsonl\"",
        ),
        (
            "dataset_format: csv",
            "dataset_format: expected one of pairwise, vlfeedback, responses, trl, ms-swift, internvl, llama-factory, alpaca, openai, \
             vl-rewardbench, mm-rlhf-rewardbench, multimodal-rewardbench or null, got \"csv\"",
        ),
        (
            "lr_scheduler_type: polynomial",
            "lr_scheduler_type: expected one of linear, cosine, constant, constant_with_warmup, got \"polynomial\"",
        ),
    ] {
        assert_eq!(error(yaml, &[]), format!("c.yaml: {expected}"));
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_eq!(
        error("learning_rat: 1", &[]),
        "c.yaml: learning_rat: unknown key: the nearest one is learning_rate"
    );
    assert_eq!(
        error("", &["bf_16=1"]),
        "--set bf_16=1: unknown key: the nearest one is bf16"
    );
    assert_eq!(error("", &["seed"]), "--set seed: expected key=value");
}

#[test]
fn unsupported_features_are_refused_unless_neutral() {
    for (yaml, because) in [
        ("fp16: true", "use bf16: true"),
        ("optim: adafactor", "the optimizer is AdamW"),
        ("lora_bias: all", "biases of a part with"),
        ("label_smoothing_factor: 0.1", "use label_smoothing"),
    ] {
        let (key, _) = yaml.split_once(':').unwrap();
        let message = error(yaml, &[]);
        assert!(
            message.starts_with(&format!("c.yaml: {key}: expected ")),
            "{message}"
        );
        assert!(message.contains(because), "{message}");
    }
    config(
        "bf16: 'False'\ndrop_path_rate: 0\nlabel_smoothing_factor: 0.0\nneftune_noise_alpha: null",
    );
}

#[test]
fn resume_from_checkpoint_takes_a_folder_or_a_boolean() {
    let of = |value| config(&format!("resume_from_checkpoint: {value}")).resume_from_checkpoint;
    assert_eq!((of("null"), of("True")), (Resume::Newest, Resume::Newest));
    assert_eq!(of("'False'"), Resume::Never);
    let folder = || Resume::From("out/checkpoint-1".into());
    assert_eq!(of("out/checkpoint-1"), folder());
    for resume_from_checkpoint in [Resume::Never, folder()] {
        let given = Config {
            resume_from_checkpoint,
            ..config("")
        };
        let again = Config::from_yaml(&given.resolved().unwrap(), "r", &[]).unwrap();
        assert_eq!(again.0, given);
        assert!(given.differences(&config("")).is_empty());
    }
    let message = error("resume_from_checkpoint: a\noverwrite_output_dir: true", &[]);
    assert!(
        message.starts_with("c.yaml: resume_from_checkpoint: "),
        "{message}"
    );
}

#[test]
fn ranges_and_combinations_are_checked() {
    for (yaml, key) in [
        (
            "per_device_train_batch_size: 0",
            "per_device_train_batch_size",
        ),
        ("threads: 0", "threads"),
        ("warmup_ratio: 1.5", "warmup_ratio"),
        ("adam_beta2: 1", "adam_beta2"),
        ("adam_epsilon: 0", "adam_epsilon"),
        ("learning_rate: -1", "learning_rate"),
        ("label_smoothing: 0.5", "label_smoothing"),
        (
            "center_rewards_coefficient: -1",
            "center_rewards_coefficient",
        ),
        ("sfc: squared", "sfc"),
        ("text_branch_layers: 0", "text_branch_layers"),
        ("num_train_epochs: 0", "num_train_epochs"),
        (
            "min_dynamic_patch: 3\nmax_dynamic_patch: 2",
            "min_dynamic_patch",
        ),
        ("use_text_only: true\nuse_image_only: true", "use_text_only"),
        (
            "use_text_only: true\nalgorithm: shortcut_aware",
            "algorithm",
        ),
        (
            "use_backbone_lora: true\nunfreeze_vit_layers: -1",
            "unfreeze_vit_layers",
        ),
        ("early_stopping_threshold: -1", "early_stopping_threshold"),
        ("early_stopping_patience: 0", "early_stopping_patience"),
        ("drop_path_rate: 2", "drop_path_rate"),
    ] {
        let message = error(yaml, &[]);
        assert!(
            message.starts_with(&format!("c.yaml: {key}: ")),
            "{message}"
        );
    }
    config("num_train_epochs: 0\nmax_steps: 10");
}

#[test]
fn a_file_that_is_not_a_mapping_is_refused() {
    for (text, expected) in [
        ("- a", "c.yaml: expected keys and values, got a list"),
        ("1: 2", "c.yaml: expected a key, got 1"),
    ] {
        let error = Config::from_yaml(text, "c.yaml", &[]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for text in ["a: [", "seed: 1\nseed: 2"] {
        let error = Config::from_yaml(text, "c.yaml", &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("c.yaml: "), "{error}");
    }
    let missing = Config::load("no/such.yaml", &[]).unwrap_err();
    assert!(
        format!("{missing:#}").starts_with("no/such.yaml: "),
        "{missing:#}"
    );
}

#[test]
fn differences_are_the_keys_that_affect_the_weights() {
    let base = config("");
    assert_eq!(
        base.differences(&config("dataset_format: trl")),
        ["dataset_format"]
    );
    let other = config("learning_rate: 1e-4\nsave_steps: 7\nthreads: 3\nshuffle: false");
    assert_eq!(base.differences(&other), ["learning_rate", "shuffle"]);
    assert!(base.differences(&base).is_empty());
    for key in WITHOUT_EFFECT_ON_WEIGHTS {
        assert!(Config::KEYS.contains(&key), "{key}");
    }
}

/// All arguments in a dump of the Hugging Face trainer's, with their defaults.
const TRAINER_DEFAULTS: &str = include_str!("trainer_defaults.yaml");

#[test]
fn every_argument_of_the_published_trainer_is_known() {
    let keys = config(TRAINER_DEFAULTS);
    let resolved = Config {
        eval_strategy: Some(EvalStrategy::No),
        ..config("")
    };
    assert_eq!(keys, resolved);
    assert_eq!(
        config("evaluation_strategy: epoch").eval_strategy,
        Some(EvalStrategy::Epoch)
    );
}

#[test]
fn files_are_read_as_pyyaml_reads_them() {
    let marked = Config::from_yaml(&format!("\u{feff}{BASE}seed: 7"), "c.yaml", &[]);
    assert_eq!(marked.unwrap().0.seed, 7);
    // Merge keys; a key of the mapping itself wins.
    assert_eq!(config("<<: {seed: 7, max_steps: 3}\nseed: 8").seed, 8);
    assert_eq!(config("<<: {seed: 7, max_steps: 3}").max_steps, 3);
    let merged = error("<<: {sead: 7}", &[]);
    assert!(merged.contains("the nearest one is seed"), "{merged}");
    // Octal numbers.
    assert_eq!(config("seed: 010").seed, 8);
    assert_eq!(config("learning_rate: 010").learning_rate, 8.0);
    assert_eq!(config("seed: 0").seed, 0);
    assert!(error("seed: 08", &[]).contains("expected a whole number"));
    assert_eq!(config("learning_rate: 01.5").learning_rate, 1.5);
}
