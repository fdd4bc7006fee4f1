//! `--check`: scores the bundle's probes and compares the rewards with the trainer's.

use anyhow::{Context, Result, bail};
use seeward_models::probe::Probe;
use seeward_runtime::{Request, RewardModel};

use super::arguments::PROGRAM;
use super::job::Check;
use crate::terminal::{self, Ending};

/// Scores the probes and prints the difference of each reward. [`Ending::SomeRowsFailed`] if one is beyond the bundle's
/// tolerance.
///
/// # Errors
/// A damaged bundle, or one without probes.
pub(super) fn check(check: &Check) -> Result<Ending> {
    let place = || format!("bundle {}", check.model.display());
    let model = RewardModel::load(&check.model, check.options.clone()).with_context(place)?;
    terminal::log_notices(PROGRAM, &model);
    model.bundle().verify().with_context(place)?;
    let manifest = model.bundle().manifest();
    if manifest.probes.is_empty() {
        bail!(
            "{}: every file has its hash, but this bundle has no probes: its checkpoint has none, or --max-length excluded them at export",
            place()
        );
    }
    let worst = worst(&model, &manifest.probes)?;
    let verdict = if worst <= manifest.probe_tolerance {
        "as trained"
    } else {
        "not as trained"
    };
    terminal::print(&format!(
        "{} probes on {}: rewards differ by at most {worst:.1e} · max(1, |reward|), allowed {:.1e}: {verdict}\n",
        manifest.probes.len(),
        model.device(),
        manifest.probe_tolerance
    ))?;
    Ok(if worst <= manifest.probe_tolerance {
        Ending::Complete
    } else {
        Ending::SomeRowsFailed
    })
}

/// The largest difference, relative to max(1, |reward|); infinite where a probe cannot be scored.
fn worst(model: &RewardModel, probes: &[Probe]) -> Result<f64> {
    let folder = model.bundle().folder();
    let request = |probe: &Probe| {
        let images = probe.images.iter().map(|image| folder.join(image));
        Request::new(&probe.prompt)
            .images(images)
            .responses(&probe.responses)
    };
    let requests: Vec<Request> = probes.iter().map(request).collect();
    let mut worst: f64 = 0.0;
    terminal::print(&format!(
        "{:>5}  {:>12}  {:>12}  {:>8}\n",
        "probe", "trained", "served", "diff"
    ))?;
    for (index, (probe, result)) in probes
        .iter()
        .zip(model.score(&requests)?.results)
        .enumerate()
    {
        let rewards = result.with_context(|| format!("probe {index}"))?.rewards;
        for (&trained, served) in probe.rewards.iter().zip(rewards) {
            let difference = relative_difference(trained, served);
            let line = format!("{index:>5}  {trained:>12.6}  {served:>12.6}  {difference:>8.1e}\n");
            terminal::print(&line)?;
            worst = worst.max(difference);
        }
    }
    Ok(worst)
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
