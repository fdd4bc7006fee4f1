//! Keys that are no settings of this trainer: those of features it does not have, and those of other frameworks.

use serde_norway::Value;

use super::setting::{Setting, shown};

/// Keys of the published argument classes that would change the result, with the values that do not.
const UNBUILT: &[(&str, &[&str])] = &[
    ("fp16", &["false"]),
    ("lora_bias", &["none"]),
    ("vision_path", &["null"]),
    ("llm_path", &["null"]),
    ("mlp_path", &["null"]),
    ("use_data_resampling", &["false"]),
    ("label_smoothing_factor", &["0"]),
    ("neftune_noise_alpha", &["null"]),
    ("adafactor", &["false"]),
    ("optim", &["adamw_torch", "adamw_torch_fused", "adamw_hf"]),
    ("lr_scheduler_kwargs", &["null"]),
    ("data_seed", &["null"]),
    ("dataloader_drop_last", &["false"]),
    ("auto_find_batch_size", &["false"]),
    ("resume_from_checkpoint", &["null", "true"]),
    ("per_gpu_train_batch_size", &["null"]),
    ("per_gpu_eval_batch_size", &["null"]),
    ("optim_args", &["null"]),
    ("optim_target_modules", &["null"]),
    ("save_only_model", &["false"]),
    ("logging_strategy", &["steps"]),
    ("do_eval", &["true", "false"]),
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
    /// It asks for a feature that is not built yet: what to say.
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
    match UNBUILT.iter().find(|(name, _)| *name == key) {
        Some((_, neutral)) if is_neutral(value, neutral) => Verdict::Neutral,
        Some((_, neutral)) => Verdict::Refused(format!(
            "expected {}, got {}: this feature is not built yet",
            neutral.join(" or "),
            shown(value)
        )),
        None if FOREIGN.iter().any(|name| matches(name, key)) => Verdict::Foreign,
        None => Verdict::Unlisted,
    }
}

/// The names that a mistyped key may have meant.
pub(super) fn unbuilt_names() -> impl Iterator<Item = &'static str> {
    UNBUILT.iter().map(|(name, _)| *name)
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
