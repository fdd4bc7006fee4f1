//! `--check`: scores the bundle's probes and compares the rewards with the trainer's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use seeward_models::image::{PIXELS_VERSION, is_jpeg};
use seeward_models::probe::{Probe, RewardRow, Tolerance, Verdict};
use seeward_runtime::RewardModel;

use super::arguments::PROGRAM;
use super::job::Check;
use crate::bundle;
use crate::terminal::{self, Ending};

/// What the rewards of JPEGs may differ by, times max(1, |reward|), where another decoder than ours gave the pixels.
const OLD_JPEG_TOLERANCE: f64 = 0.05;

/// Scores the probes and prints the difference of each reward. [`Ending::SomeRowsFailed`] if they are beyond the tolerance:
/// that of the bundle's precision, or that of JPEGs in bundles whose trainer decoded them otherwise.
///
/// # Errors
/// A damaged bundle, or one whose probes cannot tell whether it is the trained model.
pub(super) fn check(check: &Check) -> Result<Ending> {
    let model = bundle::load(PROGRAM, &check.model, check.options.clone())?;
    bundle::log_offset(PROGRAM, &model);
    let place = bundle::place(&model);
    model.bundle().verify().with_context(|| place.clone())?;
    let intact = format!("{place}: every file has its hash, but");
    let checked = model.check_probes().with_context(|| intact.clone())?;
    if let Some(error) = &checked.not_kept {
        bundle::log_not_kept(PROGRAM, error);
    }
    terminal::print(&table(&checked.rewards))?;
    let tolerance = tolerance(&model, &checked.rewards)?;
    let verdict = checked.errors.verdict(tolerance);
    if let Verdict::Undecided(reason) = verdict {
        bail!("{intact} {reason}");
    }
    terminal::print(&format!(
        "{} probes on {}: {}\n",
        checked.rewards.len(),
        model.device(),
        bundle::judgement(&checked.errors, tolerance)
    ))?;
    Ok(match verdict {
        Verdict::AsTrained => Ending::Complete,
        _ => Ending::SomeRowsFailed,
    })
}

/// The bundle's tolerance; that of old JPEGs, with a notice, if it has such and all other probes are within the bundle's.
fn tolerance(model: &RewardModel, rewards: &[RewardRow]) -> Result<Tolerance> {
    let manifest = model.bundle().manifest();
    let usual = manifest.tolerance();
    let Tolerance::Largest(largest) = usual else {
        return Ok(usual);
    };
    let is_old = |probe: &Probe| -> Result<bool> {
        let is_old = probe.pixels_version < PIXELS_VERSION;
        Ok(is_old && has_jpeg(model.bundle().folder(), probe)?)
    };
    let old = manifest.probes.iter().map(is_old);
    let old: Vec<bool> = old.collect::<Result<_>>()?;
    let mut rows = rewards.iter().zip(&old);
    if !old.contains(&true) || !rows.all(|(row, old)| *old || row.largest() <= largest) {
        return Ok(usual);
    }
    let message = format!(
        "the trainer was of a version that decoded JPEGs otherwise (pixels_version {PIXELS_VERSION} is ours): allowed \
         {OLD_JPEG_TOLERANCE} for probes with a JPEG"
    );
    terminal::log(PROGRAM, message);
    Ok(Tolerance::Largest(largest.max(OLD_JPEG_TOLERANCE)))
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

/// A line for each reward.
fn table(probes: &[RewardRow]) -> String {
    let mut table = format!(
        "{:>5}  {:>12}  {:>12}  {:>8}\n",
        "probe", "trained", "served", "diff"
    );
    for (index, probe) in probes.iter().enumerate() {
        for (trained, served) in probe.expected.iter().zip(&probe.got) {
            let difference = (served - trained).abs() / trained.abs().max(1.0);
            table += &format!("{index:>5}  {trained:>12.6}  {served:>12.6}  {difference:>8.1e}\n");
        }
    }
    table
}
