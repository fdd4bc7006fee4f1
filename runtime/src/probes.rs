//! The bundle's probes scored again: how far its rewards are off. Nothing here happens unless a caller asks for it.

use std::fs;
use std::path::Path;

use seeward_kernels::CpuFeatures;
use seeward_models::image::{PIXELS_VERSION, is_jpeg};
use seeward_models::probe::{Conditions, Probe, Record, RewardErrors, RewardRow, Tolerance};

use crate::{Error, Request, Result, RewardModel, Scale};

/// What the rewards of JPEGs may differ by, times max(1, |reward|), where another decoder than ours gave the pixels.
const OLD_JPEG_TOLERANCE: f64 = 0.05;

/// The rewards of a bundle's probes with their errors.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProbeCheck {
    /// For each probe the rewards as trained and as computed here.
    pub rewards: Vec<RewardRow>,
    /// Their errors.
    pub errors: RewardErrors,
    /// What the errors may be: the bundle's tolerance, or that of JPEGs if all other probes are within the bundle's.
    pub tolerance: Tolerance,
    /// Whether the tolerance is that of JPEGs in bundles whose trainer decoded them otherwise.
    pub allows_old_jpegs: bool,
    /// Why the bundle's folder could not keep the errors.
    pub not_kept: Option<seeward_models::Error>,
}

impl RewardModel {
    /// How far the rewards of a bundle of a lossy precision are off, if [`check_probes`](Self::check_probes) has measured it
    /// before: with this runtime, execution provider and CPU.
    pub fn kept_errors(&self) -> Option<RewardErrors> {
        let record = Record::read(self.bundle().folder(), &self.conditions());
        record
            .filter(|_| self.keeps_errors())
            .map(|record| record.errors)
    }

    /// Scores the probes and measures how far their rewards are off. In a lossy precision the bundle's folder keeps the
    /// errors, in [`RECORD_FILE`](seeward_models::probe::RECORD_FILE), for [`kept_errors`](Self::kept_errors).
    ///
    /// # Errors
    /// As [`probe_rewards`](Self::probe_rewards); an image of a probe that cannot be read. A folder that cannot be written is [`ProbeCheck::not_kept`].
    pub fn check_probes(&self) -> Result<ProbeCheck> {
        let rewards = self.probe_rewards()?;
        let errors = RewardErrors::of(&rewards, self.bundle().manifest().reward_std);
        let record = Record {
            conditions: self.conditions(),
            errors,
        };
        let kept = match self.keeps_errors() {
            true => record.write(self.bundle().folder()),
            false => Ok(()),
        };
        let allows_old_jpegs = self.allows_old_jpegs(&rewards)?;
        let tolerance = match (allows_old_jpegs, self.bundle().manifest().tolerance()) {
            (true, Tolerance::Largest(largest)) => {
                Tolerance::Largest(largest.max(OLD_JPEG_TOLERANCE))
            }
            (_, usual) => usual,
        };
        Ok(ProbeCheck {
            tolerance,
            allows_old_jpegs,
            rewards,
            errors,
            not_kept: kept.err(),
        })
    }

    /// The rewards of the bundle's probes on the trainer's scale, [`Scale::Uncorrected`] if the options ask for it.
    ///
    /// # Errors
    /// A bundle without probes; options that hide a part of them or refuse their images; a failing engine.
    pub fn probe_rewards(&self) -> Result<Vec<RewardRow>> {
        let (bundle, asked) = (self.bundle(), self.input_mode());
        let manifest = bundle.manifest();
        if manifest.probes.is_empty() {
            return Err(Error::NoProbes);
        }
        if asked != manifest.input_mode {
            let problem = "input: it hides a part of the probes from the model";
            return Err(Error::Options(problem.to_owned()));
        }
        let request = |probe: &Probe| {
            let images = probe.images.iter().map(|image| bundle.folder().join(image));
            Request::new(&probe.prompt)
                .images(images)
                .responses(&probe.responses)
        };
        let requests: Vec<Request> = manifest.probes.iter().map(request).collect();
        let results = self.score_unwhitened(&requests)?.results;
        let row = |(index, (probe, result)): (usize, (&Probe, Result<_>))| {
            let scores: crate::Scores = result.map_err(|error| Error::Probe {
                probe: index,
                error: Box::new(error),
            })?;
            Ok(RewardRow {
                expected: probe.rewards.clone(),
                got: scores.rewards,
            })
        };
        manifest
            .probes
            .iter()
            .zip(results)
            .enumerate()
            .map(row)
            .collect()
    }

    /// Whether there are probes with JPEGs that the trainer decoded otherwise, and all others are within the tolerance.
    fn allows_old_jpegs(&self, rewards: &[RewardRow]) -> Result<bool> {
        let manifest = self.bundle().manifest();
        let Tolerance::Largest(largest) = manifest.tolerance() else {
            return Ok(false);
        };
        let is_old = |probe: &Probe| -> Result<bool> {
            let is_old = probe.pixels_version < PIXELS_VERSION;
            Ok(is_old && has_jpeg(self.bundle().folder(), probe)?)
        };
        let old: Vec<bool> = manifest.probes.iter().map(is_old).collect::<Result<_>>()?;
        let mut rows = rewards.iter().zip(&old);
        Ok(old.contains(&true) && rows.all(|(row, old)| *old || row.largest() <= largest))
    }

    /// Whether the bundle's folder keeps its errors: those of a lossy precision, as rewards are served.
    fn keeps_errors(&self) -> bool {
        let is_served = self.options().scale != Scale::Uncorrected;
        is_served && self.bundle().manifest().precision.is_lossy()
    }

    fn conditions(&self) -> Conditions {
        Conditions {
            bundle: self.bundle().hash().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            provider: self.device().provider().to_owned(),
            cpu: CpuFeatures::get().to_string(),
        }
    }
}

fn has_jpeg(folder: &Path, probe: &Probe) -> Result<bool> {
    for image in &probe.images {
        let path = folder.join(image);
        let bytes = fs::read(&path);
        let bytes = bytes.map_err(|e| Error::Bundle(seeward_models::Error::io(&path, e)))?;
        if is_jpeg(&bytes) {
            return Ok(true);
        }
    }
    Ok(false)
}
