//! Checks of the ranges and combinations of settings.

use anyhow::{Result, bail, ensure};

use super::choices::{Algorithm, Resume};
use super::keys::Config;

/// Checks ranges and combinations, and returns notices for the user.
pub(super) fn check(config: &Config) -> Result<Vec<String>> {
    required(config)?;
    counts(config)?;
    fractions(config)?;
    ranges(config)?;
    combinations(config)?;
    Ok(notices(config))
}

fn required(config: &Config) -> Result<()> {
    ensure!(
        !config.dataset_path.is_empty(),
        "dataset_path: expected a file of rows, got nothing"
    );
    ensure!(
        !config.output_dir.is_empty(),
        "output_dir: expected a folder, got nothing: give one with --set output_dir=…"
    );
    Ok(())
}

fn counts(config: &Config) -> Result<()> {
    for (key, count) in [
        ("max_length", Some(config.max_length)),
        ("lora_r", Some(config.lora_r)),
        (
            "per_device_train_batch_size",
            Some(config.per_device_train_batch_size),
        ),
        (
            "per_device_eval_batch_size",
            Some(config.per_device_eval_batch_size),
        ),
        (
            "gradient_accumulation_steps",
            Some(config.gradient_accumulation_steps),
        ),
        ("save_steps", Some(config.save_steps)),
        ("save_total_limit", config.save_total_limit),
        ("logging_steps", Some(config.logging_steps)),
        ("eval_steps", config.eval_steps),
        ("early_stopping_patience", config.early_stopping_patience),
        ("force_image_size", config.force_image_size),
        ("min_dynamic_patch", config.min_dynamic_patch),
        ("max_dynamic_patch", config.max_dynamic_patch),
        ("text_branch_layers", config.text_branch_layers),
        ("threads", config.threads),
        ("ddp_timeout", Some(config.ddp_timeout)),
    ] {
        ensure!(count != Some(0), "{key}: expected at least 1, got 0");
    }
    Ok(())
}

/// Checks settings that must lie between 0 and 1.
fn fractions(config: &Config) -> Result<()> {
    for (key, value) in [
        ("lora_dropout", config.lora_dropout),
        ("drop_path_rate", config.drop_path_rate),
        ("warmup_ratio", config.warmup_ratio),
        ("min_lr_ratio", config.min_lr_ratio),
        ("max_bad_fraction", config.max_bad_fraction),
    ] {
        let within = (0.0..=1.0).contains(&value);
        ensure!(within, "{key}: expected a number from 0 to 1, got {value}");
    }
    for (key, beta) in [
        ("adam_beta1", config.adam_beta1),
        ("adam_beta2", config.adam_beta2),
    ] {
        let within = (0.0..1.0).contains(&beta);
        ensure!(
            within,
            "{key}: expected a number from 0 to below 1, got {beta}"
        );
    }
    Ok(())
}

fn ranges(config: &Config) -> Result<()> {
    for (key, value) in [
        ("learning_rate", config.learning_rate),
        ("weight_decay", config.weight_decay),
        ("max_grad_norm", config.max_grad_norm),
        (
            "center_rewards_coefficient",
            config.center_rewards_coefficient.unwrap_or(0.0),
        ),
        ("early_stopping_threshold", config.early_stopping_threshold),
    ] {
        ensure!(value >= 0.0, "{key}: expected zero or more, got {value}");
    }
    for (key, value) in [
        ("adam_epsilon", config.adam_epsilon),
        ("down_sample_ratio", config.down_sample_ratio.unwrap_or(1.0)),
    ] {
        ensure!(value > 0.0, "{key}: expected more than zero, got {value}");
    }
    let smoothing = config.label_smoothing;
    ensure!(
        (0.0..0.5).contains(&smoothing),
        "label_smoothing: expected a number from 0 to below 0.5, got {smoothing}"
    );
    let (steps, epochs) = (config.max_steps, config.num_train_epochs);
    ensure!(
        steps > 0 || epochs > 0.0,
        "num_train_epochs: expected more than zero, since max_steps is not set, got {epochs}"
    );
    Ok(())
}

fn combinations(config: &Config) -> Result<()> {
    if let (Some(min), Some(max)) = (config.min_dynamic_patch, config.max_dynamic_patch) {
        ensure!(
            min <= max,
            "min_dynamic_patch: expected at most max_dynamic_patch ({max}), got {min}"
        );
    }
    if config.group_by_length && !config.shuffle {
        bail!("group_by_length: needs shuffle: true, because it reorders the rows");
    }
    if config.overwrite_output_dir && matches!(config.resume_from_checkpoint, Resume::From(_)) {
        bail!(
            "resume_from_checkpoint: contradicts overwrite_output_dir: true, which starts from scratch: remove one of them"
        );
    }
    if config.use_text_only && config.use_image_only {
        bail!("use_text_only: with use_image_only no input is left to train on");
    }
    if config.unfreeze_vit_layers != 0 && config.use_backbone_lora {
        bail!("unfreeze_vit_layers: cannot be combined with use_backbone_lora");
    }
    let ablated = config.use_text_only || config.use_image_only;
    if ablated && config.algorithm == Algorithm::ShortcutAware {
        bail!(
            "algorithm: shortcut_aware needs image and text: set use_text_only and use_image_only to false"
        );
    }
    Ok(())
}

fn notices(config: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    let (algorithm, defaults) = (config.algorithm, Config::default());
    if algorithm != Algorithm::ShortcutAware {
        notices.extend(unused(config, &defaults, &TWO_BRANCH_KEYS, algorithm));
    }
    if algorithm == Algorithm::Sft {
        notices.extend(unused(config, &defaults, &PAIR_KEYS, algorithm));
    }
    if config.unfreeze_lm_head && config.algorithm != Algorithm::Sft {
        notices.push(
            "unfreeze_lm_head: not used: rewards do not depend on the output projection".into(),
        );
    }
    let unknown = |name: &&String| !["all", "none", "tensorboard"].contains(&name.as_str());
    if let Some(name) = config.report_to.iter().find(unknown) {
        notices.push(format!(
            "report_to: {name} is ignored: only metrics.jsonl and tensorboard are written"
        ));
    }
    notices
}

/// Keys that only the shortcut-aware algorithm uses.
const TWO_BRANCH_KEYS: [&str; 5] = [
    "bias_model_path",
    "text_branch_warmup_steps",
    "sfc",
    "text_branch_vision",
    "text_branch_layers",
];
/// Keys that only algorithms on pairs use.
const PAIR_KEYS: [&str; 3] = [
    "dataset_format",
    "label_smoothing",
    "center_rewards_coefficient",
];

/// Notices for the `keys` that are set although `algorithm` does not use them.
fn unused<'a>(
    config: &Config,
    defaults: &Config,
    keys: &'a [&str],
    algorithm: Algorithm,
) -> impl Iterator<Item = String> + use<'a> {
    let changed = config.differences(defaults);
    let set = keys.iter().filter(move |key| changed.contains(key));
    set.map(move |key| format!("{key}: not used by algorithm {}", algorithm.name()))
}
