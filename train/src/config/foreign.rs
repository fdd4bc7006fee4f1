//! Keys that are not settings of this trainer: keys of unsupported features, and keys of other frameworks.

use serde_norway::Value;

use super::keys::Config;
use super::setting::{Setting, shown};

/// A key of the published argument classes whose feature is not supported.
struct Refused {
    key: &'static str,
    /// Values that do not ask for the feature.
    neutral: &'static [&'static str],
    /// The reason, or the alternative.
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

const ONE_FOLDER: &str = "a model is one folder: use model_name_or_path";
const PER_DEVICE: &str = "use per_device_train_batch_size";

const UNSUPPORTED: &[Refused] = &[
    refused(
        "fp16",
        &["false"],
        "loss scaling is not supported: use bf16: true",
    ),
    refused(
        "lora_bias",
        &["none"],
        "biases of a part with LoRA layers stay frozen",
    ),
    refused("vision_path", &["null"], ONE_FOLDER),
    refused("llm_path", &["null"], ONE_FOLDER),
    refused("mlp_path", &["null"], ONE_FOLDER),
    refused(
        "use_data_resampling",
        &["false"],
        "an epoch has every row once: duplicate rows in the file instead",
    ),
    refused(
        "label_smoothing_factor",
        &["0"],
        "it smooths classes: for pairs use label_smoothing",
    ),
    refused(
        "neftune_noise_alpha",
        &["null"],
        "noise on embeddings is not supported",
    ),
    refused("adafactor", &["false"], "the optimizer is AdamW"),
    refused(
        "optim",
        &[
            "adamw_torch",
            "adamw_torch_fused",
            "adamw_hf",
            "adamw_apex_fused",
        ],
        "the optimizer is AdamW with fp32 state",
    ),
    refused(
        "optim_args",
        &["null"],
        "use adam_beta1, adam_beta2 and adam_epsilon",
    ),
    refused(
        "optim_target_modules",
        &["null"],
        "one optimizer updates all trainable parameters",
    ),
    refused(
        "lr_scheduler_kwargs",
        &["null"],
        "the only setting of the schedules is min_lr_ratio",
    ),
    refused(
        "auto_find_batch_size",
        &["false"],
        "--dry-run estimates the memory of per_device_train_batch_size",
    ),
    refused("per_gpu_train_batch_size", &["null"], PER_DEVICE),
    refused(
        "per_gpu_eval_batch_size",
        &["null"],
        "use per_device_eval_batch_size",
    ),
    refused("logging_strategy", &["steps"], "use logging_steps"),
    refused("do_eval", &["true", "false"], "use eval_strategy"),
];

/// Keys that only another framework uses; a trailing `*` matches any suffix.
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

/// The classification of a key before its value is read.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It asks for an unsupported feature; with the message.
    Refused(String),
    /// A key of an unsupported feature, with a value that does not ask for it.
    Neutral,
    /// A key that only another framework uses.
    Foreign,
    /// Any other key: a config key or an unknown one.
    Unlisted,
}

/// Classifies a key with its value.
pub(super) fn classify(key: &str, value: &Value) -> Verdict {
    match UNSUPPORTED.iter().find(|refused| refused.key == key) {
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

/// Names of the keys of unsupported features, as candidates for a mistyped key.
pub(super) fn unsupported_names() -> impl Iterator<Item = &'static str> {
    UNSUPPORTED.iter().map(|refused| refused.key)
}

fn matches(name: &str, key: &str) -> bool {
    match name.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == name,
    }
}

/// Whether `value` equals one of `neutral`, as numbers, booleans or text: `0.0` is `0`, and `no` is `false`.
fn is_neutral(value: &Value, neutral: &[&str]) -> bool {
    neutral.iter().any(|name| {
        let name = Value::from(*name);
        same::<f64>(value, &name) || same::<bool>(value, &name) || text(value) == text(&name)
    })
}

fn same<T: Setting + PartialEq>(a: &Value, b: &Value) -> bool {
    T::read(a).is_some_and(|a| T::read(b) == Some(a))
}

/// The value as text; an empty mapping counts as null.
fn text(value: &Value) -> String {
    match value {
        Value::Mapping(keys) if keys.is_empty() => "null".into(),
        Value::String(text) => text.clone(),
        other => shown(other),
    }
}
