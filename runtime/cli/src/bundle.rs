//! Loading a bundle, and what a user should know about it.

use std::path::Path;

use anyhow::{Context, Result};
use seeward_models::probe::{RewardErrors, Tolerance, Verdict};
use seeward_runtime::{Options, RewardModel};

use crate::terminal::log;

/// A smaller mean error, as a share of the rewards' spread, is not worth a correction.
const LEAST_MEAN: f64 = 0.02;

/// Loads the bundle in `folder`. Logs the graph nodes that fall back to another of ONNX Runtime's providers, and a precision
/// to replace.
///
/// # Errors
/// As [`RewardModel::load`].
pub(crate) fn load(program: &str, folder: &Path, options: Options) -> Result<RewardModel> {
    let model = RewardModel::load(folder, options);
    let model = model.with_context(|| format!("bundle {}", folder.display()))?;
    for nodes in model.fallback_nodes() {
        log(program, format_args!("{}: {nodes}", model.device()));
    }
    if let Some(advice) = model.bundle().manifest().outdated_precision() {
        log(program, format_args!("{}: {advice}", place(&model)));
    }
    Ok(model)
}

/// A bundle in messages.
pub(crate) fn place(model: &RewardModel) -> String {
    format!("bundle {}", model.bundle().folder().display())
}

/// Logs the correction of the bundle's rewards, if it has one.
pub(crate) fn log_offset(program: &str, model: &RewardModel) {
    if let Some(offset) = &model.bundle().manifest().reward_offset {
        let (place, value) = (place(model), offset.value);
        let source = format!("{} rows of {}", offset.rows, offset.from);
        let message =
            format!("{place}: adds its reward_offset {value:+} to every reward ({source})");
        log(program, message);
    }
}

/// Logs how far the rewards of a bundle of a lossy precision are off. The first time, its probes are scored for that.
pub(crate) fn log_errors(program: &str, model: &RewardModel) {
    let manifest = model.bundle().manifest();
    if !manifest.precision.is_lossy() {
        return;
    }
    let name = format!("{} is {}", place(model), manifest.precision);
    let errors = model
        .kept_errors()
        .map_or_else(|| measured(program, model), Ok);
    match errors {
        Ok(errors) => log(
            program,
            format_args!("{name}: {}", judgement(&errors, manifest.tolerance())),
        ),
        Err(error) => log(
            program,
            format_args!("{name}, and how far its rewards are off is unknown: {error}"),
        ),
    }
}

fn measured(program: &str, model: &RewardModel) -> seeward_runtime::Result<RewardErrors> {
    let check = model.check_probes()?;
    if let Some(error) = check.not_kept {
        log_not_kept(program, &error);
    }
    Ok(check.errors)
}

/// Logs that the errors of a bundle will be measured again.
pub(crate) fn log_not_kept(program: &str, error: &seeward_models::Error) {
    let message =
        format!("the measured errors are not kept, so the next run measures them again: {error}");
    log(program, message);
}

/// The errors of a bundle and what they say about it.
pub(crate) fn judgement(errors: &RewardErrors, tolerance: Tolerance) -> String {
    let verdict = errors.verdict(tolerance);
    match (tolerance, verdict) {
        (_, Verdict::Undecided(reason)) => reason,
        (Tolerance::Largest(allowed), verdict) => {
            let largest = errors.largest;
            format!(
                "rewards differ by at most {largest:.1e} · max(1, |reward|), allowed {allowed:.1e}: {verdict}"
            )
        }
        (Tolerance::ShareOfSpread(allowed), verdict) => {
            let cure = match errors.mean.abs() > LEAST_MEAN * errors.spread {
                true => "; --correct-mean removes the mean",
                false => "",
            };
            format!("rewards are off by {errors}, allowed {allowed}: {verdict}{cure}")
        }
    }
}
