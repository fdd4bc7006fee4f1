//! Keys that are no settings of this trainer: those of features it does not have, and those of other frameworks.

use serde_norway::Value;

use super::keys::Config;
use super::setting::{Setting, shown};

/// A key of the published argument classes that would change the result.
struct Refused {
    key: &'static str,
    /// The values that would not.
    neutral: &'static [&'static str],
    /// Why there is no other, or what there is instead.
    because: &'static str,
}

const fn refused(
    key: &'static str,
    neutral: &'static [&'static str],
    because: &'static str,
) -> Refused {
    Refused {
        key,
        neutral,
        because,
    }
}

const ONE_FOLDER: &str = "a model is one folder: model_name_or_path";
const PER_DEVICE: &str = "its name is per_device_train_batch_size";

const UNBUILT: &[Refused] = &[
    refused(
        "fp16",
        &["false"],
        "gradients are not scaled: bf16: true trains in 16 bits",
    ),
    refused(
        "lora_bias",
        &["none"],
        "biases of a part with low-rank additions stay as they are",
    ),
    refused("vision_path", &["null"], ONE_FOLDER),
    refused("llm_path", &["null"], ONE_FOLDER),
    refused("mlp_path", &["null"], ONE_FOLDER),
    refused(
        "use_data_resampling",
        &["false"],
        "an epoch has every row once: write those twice that are to count twice",
    ),
    refused(
        "label_smoothing_factor",
        &["0"],
        "it is one of classes: that of pairs is label_smoothing",
    ),
    refused("neftune_noise_alpha", &["null"], "embeddings get no noise"),
    refused("adafactor", &["false"], "the optimizer is AdamW"),
    refused(
        "optim",
        &[
            "adamw_torch",
            "adamw_torch_fused",
            "adamw_hf",
            "adamw_apex_fused",
        ],
        "the optimizer is AdamW, its state in fp32",
    ),
    refused(
        "optim_args",
        &["null"],
        "AdamW's settings are adam_beta1, adam_beta2 and adam_epsilon",
    ),
    refused(
        "optim_target_modules",
        &["null"],
        "one optimizer moves all that trains",
    ),
    refused(
        "lr_scheduler_kwargs",
        &["null"],
        "the schedules' only setting is min_lr_ratio",
    ),
    refused(
        "auto_find_batch_size",
        &["false"],
        "--dry-run says what memory per_device_train_batch_size takes",
    ),
    refused("per_gpu_train_batch_size", &["null"], PER_DEVICE),
    refused(
        "per_gpu_eval_batch_size",
        &["null"],
        "its name is per_device_eval_batch_size",
    ),
    refused("logging_strategy", &["steps"], "logging_steps says when"),
    refused("do_eval", &["true", "false"], "eval_strategy says when"),
];

/// Keys that mean something to another framework alone; a last `*` stands for any ending.
const FOREIGN: &[&str] = &[
    "accelerator_config",
    "average_tokens_across_devices",
    "batch_eval_metrics",
    "bf16_full_eval",
    "cache_dir",
    "dataloader_*",
    "dataset_num_proc",
    "ddp_*",
    "debug",
    "deepspeed",
    "disable_tqdm",
    "dispatch_batches",
    "do_predict",
    "do_train",
    "dtype",
    "eval_accumulation_steps",
    "eval_delay",
    "eval_do_concat_batches",
    "eval_on_start",
    "eval_use_gather_object",
    "fp16_*",
    "fsdp*",
    "full_determinism",
    "gradient_checkpointing*",
    "half_precision_backend",
    "hub_*",
    "ignore_data_skip",
    "include_*",
    "jit_mode_eval",
    "label_names",
    "length_column_name",
    "liger_kernel_config",
    "local_rank",
    "log_level*",
    "log_on_each_node",
    "logging_dir",
    "logging_nan_inf_filter",
    "mp_parameters",
    "no_cuda",
    "overwrite_cache",
    "parallelism_config",
    "past_index",
    "prediction_loss_only",
    "push_to_hub*",
    "ray_scope",
    "remove_unused_columns",
    "restore_callback_states_from_checkpoint",
    "run_name",
    "save_on_each_node",
    "save_safetensors",
    "skip_memory_metrics",
    "split_batches",
    "torch_*",
    "torchdynamo",
    "tpu_*",
    "trust_remote_code",
    "use_cpu",
    "use_custom_trainer",
    "use_fast_tokenizer",
    "use_ipex",
    "use_legacy_prediction_loop",
    "use_liger*",
    "use_mps_device",
];

/// What to do with a key.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It asks for a feature that there is not: what to say.
    Refused(String),
    /// It asks for nothing: a neutral value, of a key that is not read.
    Neutral,
    /// It means nothing here.
    Foreign,
    /// A key of ours, or of nobody's.
    Unlisted,
}

/// Judges a key before it is read.
pub(super) fn judge(key: &str, value: &Value) -> Verdict {
    match UNBUILT.iter().find(|refused| refused.key == key) {
        Some(refused) if is_neutral(value, refused.neutral) => Verdict::Neutral,
        Some(refused) => Verdict::Refused(format!(
            "expected {}, got {}: {}",
            refused.neutral.join(" or "),
            shown(value),
            refused.because
        )),
        None if Config::KEYS.contains(&key) => Verdict::Unlisted,
        None if FOREIGN.iter().any(|name| matches(name, key)) => Verdict::Foreign,
        None => Verdict::Unlisted,
    }
}

/// The names that a mistyped key may have meant.
pub(super) fn unbuilt_names() -> impl Iterator<Item = &'static str> {
    UNBUILT.iter().map(|refused| refused.key)
}

fn matches(name: &str, key: &str) -> bool {
    match name.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == name,
    }
}

/// Compares as numbers, as booleans, or as text: `0.0` is `0`, and `no` is `false`.
fn is_neutral(value: &Value, neutral: &[&str]) -> bool {
    neutral.iter().any(|name| {
        let name = Value::from(*name);
        same::<f64>(value, &name) || same::<bool>(value, &name) || text(value) == text(&name)
    })
}

fn same<T: Setting + PartialEq>(a: &Value, b: &Value) -> bool {
    T::read(a).is_some_and(|a| T::read(b) == Some(a))
}

/// Nothing in either spelling: null, or a mapping without keys.
fn text(value: &Value) -> String {
    match value {
        Value::Mapping(keys) if keys.is_empty() => "null".into(),
        Value::String(text) => text.clone(),
        other => shown(other),
    }
}
