//! The scale of rewards.

use seeward_models::bundle::Manifest;

use crate::{Error, Result};

/// The scale of rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scale {
    /// The model's own, plus the bundle's reward offset if it has one.
    #[default]
    Raw,
    /// The model's own, without the offset: for measuring it.
    Uncorrected,
    /// [`Raw`](Self::Raw) minus their mean, divided by their standard deviation, over the trainer's evaluation set. The bundle
    /// must hold both.
    Whitened,
}

/// The steps from the graph's rewards to those of a scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescaling {
    offset: Option<f32>,
    whitening: Option<Whitening>,
}

impl Rescaling {
    /// The bundle's values for this scale.
    pub(crate) fn of(manifest: &Manifest, scale: Scale) -> Result<Self> {
        let offset = manifest.reward_offset.as_ref().map(|offset| offset.value);
        Ok(Self {
            offset: offset.filter(|_| scale != Scale::Uncorrected),
            whitening: match scale {
                Scale::Raw | Scale::Uncorrected => None,
                Scale::Whitened => Some(Whitening::of(manifest)?),
            },
        })
    }

    /// The same on the scale of the trainer's rewards.
    pub(crate) fn without_whitening(self) -> Self {
        Self {
            whitening: None,
            ..self
        }
    }

    pub(crate) fn apply(self, reward: f32) -> f32 {
        let reward = self.offset.map_or(reward, |offset| reward + offset);
        self.whitening
            .map_or(reward, |whitening| whitening.apply(reward))
    }
}

/// Mean and standard deviation.
#[derive(Clone, Copy, Debug)]
struct Whitening {
    mean: f64,
    deviation: f64,
}

impl Whitening {
    fn of(manifest: &Manifest) -> Result<Self> {
        match (manifest.reward_mean, manifest.reward_std) {
            (Some(mean), Some(deviation))
                if mean.is_finite() && deviation.is_finite() && deviation > 0.0 =>
            {
                Ok(Self { mean, deviation })
            }
            (mean, deviation) => Err(Error::Options(format!(
                "scale: whitened rewards need the bundle's reward_mean and a positive reward_std, got {} and {}",
                or_none(mean),
                or_none(deviation)
            ))),
        }
    }

    fn apply(self, reward: f32) -> f32 {
        ((f64::from(reward) - self.mean) / self.deviation) as f32
    }
}

fn or_none(value: Option<f64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use seeward_models::bundle::{Bundle, RewardOffset};

    use super::*;

    #[test]
    fn an_offset_is_added_before_whitening_and_not_to_uncorrected_rewards() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/bundles/qwen2");
        let mut manifest = Bundle::open(&golden).unwrap().manifest().clone();
        (manifest.reward_mean, manifest.reward_std) = (Some(1.0), Some(2.0));
        let on = |manifest: &Manifest, scale| Rescaling::of(manifest, scale).unwrap();
        // Adding 0 would turn -0 into 0.
        let plain = on(&manifest, Scale::Raw).apply(-0.0);
        assert_eq!(plain.to_bits(), (-0.0_f32).to_bits());
        manifest.reward_offset = Some(RewardOffset {
            value: 0.1,
            rows: 6,
            from: "probes".to_owned(),
        });
        let rewards = [Scale::Raw, Scale::Uncorrected, Scale::Whitened]
            .map(|scale| on(&manifest, scale).apply(0.7));
        assert_eq!(rewards[0], 0.7 + 0.1);
        assert_eq!(rewards[1], 0.7);
        assert_eq!(rewards[2], ((f64::from(rewards[0]) - 1.0) / 2.0) as f32);
        let trained = on(&manifest, Scale::Whitened).without_whitening();
        assert_eq!(trained.apply(0.7), rewards[0]);
    }
}
