//! `--check`: scores the bundle's probes and compares the rewards with the trainer's.

use anyhow::{Context, Result, bail};
use seeward_models::image::PIXELS_VERSION;
use seeward_models::probe::{RewardRow, Tolerance, Verdict};

use super::arguments::PROGRAM;
use super::job::Check;
use crate::bundle;
use crate::terminal::{self, Ending};

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
    if checked.allows_old_jpegs {
        terminal::log(PROGRAM, old_jpegs(checked.tolerance));
    }
    let tolerance = checked.tolerance;
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

fn old_jpegs(tolerance: Tolerance) -> String {
    let allowed = match tolerance {
        Tolerance::Largest(allowed) | Tolerance::ShareOfSpread(allowed) => allowed,
    };
    format!(
        "the trainer was of a version that decoded JPEGs otherwise (pixels_version {PIXELS_VERSION} is ours): allowed \
         {allowed} for probes with a JPEG"
    )
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
