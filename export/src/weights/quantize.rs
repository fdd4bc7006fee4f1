//! Symmetric quantization of weights in rotated groups. Trained models have a few input channels that dominate all others; the
//! rotation spreads them over their group, and the group's scale keeps them from the other groups.

use seeward_kernels::int8::rotate;
use seeward_models::contract::GROUP;
use seeward_models::{Error, Result};

/// Weights of one output and one group of inputs, rotated: integer · scale is a rotated weight to within half a scale.
pub(super) struct QuantizedGroup {
    /// Two's complement, from −127 to 127.
    pub(super) integers: [u8; GROUP],
    pub(super) scale: f32,
}

impl QuantizedGroup {
    /// At most [`GROUP`] weights, padded with zeros. The rotation is its own inverse up to the factor `GROUP`, which the
    /// weights take.
    ///
    /// # Errors
    /// A NaN or infinite weight.
    pub(super) fn new(weights: &[f32]) -> Result<Self> {
        if let Some(value) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::invalid(format!("{value} cannot be quantized")));
        }
        let mut values = [0.0; GROUP];
        values[..weights.len()].copy_from_slice(weights);
        rotate(&mut values);
        let values = values.map(|value| value / GROUP as f32);
        let largest = values
            .iter()
            .fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let scale = largest / f32::from(i8::MAX);
        Ok(Self {
            integers: values.map(|value| nearest(value, scale) as u8),
            scale,
        })
    }

    /// The sum of the integers.
    pub(super) fn sum(&self) -> i32 {
        let integers = self.integers.iter();
        integers.map(|&integer| i32::from(integer as i8)).sum()
    }
}

fn nearest(value: f32, scale: f32) -> i8 {
    match scale {
        0.0 => 0,
        scale => (value / scale).round_ties_even() as i8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_weights_are_within_half_a_scale() {
        for count in [1, 5, GROUP] {
            let weights: Vec<f32> = (0..count).map(|at| (at as f32 + 0.3).sin()).collect();
            let group = QuantizedGroup::new(&weights).unwrap();
            let mut rotated = [0.0; GROUP];
            rotated[..count].copy_from_slice(&weights);
            rotate(&mut rotated);
            for (integer, rotated) in group.integers.into_iter().zip(rotated) {
                let integer = f32::from(integer as i8);
                let value = rotated / GROUP as f32;
                assert!((integer * group.scale - value).abs() <= 0.5001 * group.scale);
            }
            assert!(
                group
                    .integers
                    .iter()
                    .any(|&integer| (integer as i8).abs() == 127)
            );
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let group = QuantizedGroup::new(&[0.0; 3]).unwrap();
        assert_eq!(
            (group.integers, group.scale, group.sum()),
            ([0; GROUP], 0.0, 0)
        );
    }

    #[test]
    fn a_weight_that_is_not_finite_is_reported() {
        for (value, name) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
            let Err(error) = QuantizedGroup::new(&[1.0, value]) else {
                panic!("{name} was quantized");
            };
            assert_eq!(error.to_string(), format!("{name} cannot be quantized"));
        }
    }
}
