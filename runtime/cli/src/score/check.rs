//! `--check`: scores the bundle's probes and compares the rewards with the trainer's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use seeward_models::image::{PIXELS_VERSION, is_jpeg};
use seeward_models::probe::Probe;
use seeward_runtime::{Request, RewardModel};

use super::arguments::PROGRAM;
use super::job::Check;
use crate::terminal::{self, Ending};

/// What the rewards of JPEGs may differ by, times max(1, |reward|), where another decoder than ours gave the pixels.
const OLD_JPEG_TOLERANCE: f64 = 0.05;

/// Scores the probes and prints the difference of each reward. [`Ending::SomeRowsFailed`] if one is beyond its tolerance:
/// the bundle's, or that of JPEGs in bundles whose trainer decoded them otherwise.
///
/// # Errors
/// A damaged bundle, or one without probes.
pub(super) fn check(check: &Check) -> Result<Ending> {
    let place = || format!("bundle {}", check.model.display());
    let model = RewardModel::load(&check.model, check.options.clone()).with_context(place)?;
    terminal::log_fallback_nodes(PROGRAM, &model);
    model.bundle().verify().with_context(place)?;
    let manifest = model.bundle().manifest();
    if manifest.probes.is_empty() {
        bail!(
            "{}: every file has its hash, but this bundle has no probes: its checkpoint has none, or --max-length excluded them at export",
            place()
        );
    }
    let allowed = tolerances(&model)?;
    let (worst, is_as_trained) = compare(&model, &allowed)?;
    let verdict = if is_as_trained {
        "as trained"
    } else {
        "not as trained"
    };
    terminal::print(&format!(
        "{} probes on {}: rewards differ by at most {worst:.1e} · max(1, |reward|), allowed {:.1e}: {verdict}\n",
        manifest.probes.len(),
        model.device(),
        allowed.iter().copied().fold(0.0, f64::max)
    ))?;
    Ok(if is_as_trained {
        Ending::Complete
    } else {
        Ending::SomeRowsFailed
    })
}

/// The tolerance of every probe; a notice where it is not the bundle's.
fn tolerances(model: &RewardModel) -> Result<Vec<f64>> {
    let manifest = model.bundle().manifest();
    let is_old_jpeg = |probe: &Probe| -> Result<bool> {
        let is_old = probe.pixels_version < PIXELS_VERSION;
        Ok(is_old && has_jpeg(model.bundle().folder(), probe)?)
    };
    let old = manifest.probes.iter().map(is_old_jpeg);
    let old: Vec<bool> = old.collect::<Result<_>>()?;
    if old.contains(&true) {
        terminal::log(
            PROGRAM,
            format_args!(
                "the trainer was of a version that decoded JPEGs otherwise (pixels_version {PIXELS_VERSION} is ours): \
                 allowed {OLD_JPEG_TOLERANCE} for probes with a JPEG"
            ),
        );
    }
    let bundles = manifest.probe_tolerance;
    let tolerance = |is_old| match is_old {
        true => bundles.max(OLD_JPEG_TOLERANCE),
        false => bundles,
    };
    Ok(old.into_iter().map(tolerance).collect())
}

fn has_jpeg(folder: &Path, probe: &Probe) -> Result<bool> {
    for image in &probe.images {
        let path = folder.join(image);
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if is_jpeg(&bytes) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The largest difference, relative to max(1, |reward|), and whether every one is within the tolerance of its probe; a
/// probe that cannot be scored is an error.
fn compare(model: &RewardModel, allowed: &[f64]) -> Result<(f64, bool)> {
    let bundle = model.bundle();
    let request = |probe: &Probe| {
        let images = probe.images.iter();
        Request::new(&probe.prompt)
            .images(images.map(|image| bundle.folder().join(image)))
            .responses(&probe.responses)
    };
    let probes = &bundle.manifest().probes;
    let requests: Vec<Request> = probes.iter().map(request).collect();
    terminal::print(&format!(
        "{:>5}  {:>12}  {:>12}  {:>8}\n",
        "probe", "trained", "served", "diff"
    ))?;
    let (mut worst, mut is_within) = (0.0f64, true);
    let results = model.score(&requests)?.results;
    for (index, ((probe, result), allowed)) in probes.iter().zip(results).zip(allowed).enumerate() {
        let rewards = result.with_context(|| format!("probe {index}"))?.rewards;
        for (&trained, served) in probe.rewards.iter().zip(rewards) {
            let difference = relative_difference(trained, served);
            let line = format!("{index:>5}  {trained:>12.6}  {served:>12.6}  {difference:>8.1e}\n");
            terminal::print(&line)?;
            worst = worst.max(difference);
            is_within &= difference <= *allowed;
        }
    }
    Ok((worst, is_within))
}

fn relative_difference(trained: f32, served: f32) -> f64 {
    let (trained, served) = (f64::from(trained), f64::from(served));
    let difference = (trained - served).abs() / trained.abs().max(1.0);
    // A NaN is never close.
    match difference.is_nan() {
        true => f64::INFINITY,
        false => difference,
    }
}
