//! The scale of rewards.

use seeward_models::bundle::Manifest;

use crate::{Error, Result};

/// The scale of rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scale {
    /// The model's own.
    #[default]
    Raw,
    /// Minus their mean, divided by their standard deviation, over the trainer's evaluation set. The bundle must hold both.
    Whitened,
}

/// Mean and standard deviation.
#[derive(Clone, Copy)]
pub(crate) struct Whitening {
    mean: f64,
    deviation: f64,
}

impl Whitening {
    /// The bundle's values for this scale.
    pub(crate) fn of(manifest: &Manifest, scale: Scale) -> Result<Option<Self>> {
        match (scale, manifest.reward_mean, manifest.reward_std) {
            (Scale::Raw, ..) => Ok(None),
            (Scale::Whitened, Some(mean), Some(deviation))
                if mean.is_finite() && deviation.is_finite() && deviation > 0.0 =>
            {
                Ok(Some(Self { mean, deviation }))
            }
            (Scale::Whitened, mean, deviation) => Err(Error::Options(format!(
                "scale: whitened rewards need the bundle's reward_mean and a positive reward_std, got {} and {}",
                or_none(mean),
                or_none(deviation)
            ))),
        }
    }

    pub(crate) fn apply(self, reward: f32) -> f32 {
        ((f64::from(reward) - self.mean) / self.deviation) as f32
    }
}

fn or_none(value: Option<f64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
