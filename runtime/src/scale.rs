//! The scale on which rewards come out.

use seeward_models::bundle::Manifest;

use crate::{Error, Result};

/// The scale on which rewards come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// As the model computes them.
    #[default]
    Raw,
    /// Less their mean and divided by their standard deviation over the trainer's evaluation set, which the bundle must
    /// hold.
    Whitened,
}

/// Mean and standard deviation.
#[derive(Clone, Copy)]
pub(crate) struct Whitening {
    mean: f64,
    deviation: f64,
}

impl Whitening {
    /// What is needed for the scale, out of the bundle.
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
                shown(mean),
                shown(deviation)
            ))),
        }
    }

    pub(crate) fn apply(self, reward: f32) -> f32 {
        ((f64::from(reward) - self.mean) / self.deviation) as f32
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
