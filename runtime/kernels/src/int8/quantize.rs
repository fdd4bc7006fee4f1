//! Rows of f32 values as 8-bit integers with a scale each. A row is read twice while it is in the cache.

use super::dispatch::{Work, dispatch};
use super::dot::IntDot;
use super::rows::QuantizedRowsMut;
use crate::CpuFeatures;
use crate::activations::ROUNDER;
use crate::parallel::{ParallelFor, run_tasks};

/// Rows of a task.
const ROWS_PER_TASK: usize = 32;
/// The scale of a row of zeros.
const LEAST: f32 = 1e-32;

/// Which integers stand for a row's values: a value is nearly (integer − zero point) · scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantRange {
    /// The integer for zero.
    pub zero_point: u8,
    /// Integers in use above the zero point; at most as many are in use below it.
    pub qmax: u8,
}

impl QuantRange {
    /// Writes the integers and scales of rows of values `[rows, width]`. A scale is the smallest for which all values of its row
    /// lie between −min(zero point, qmax) and qmax scales. An all-zero row gets a tiny positive scale; a row with NaN or
    /// infinity gets a NaN scale.
    ///
    /// # Errors
    /// Those of `parallel`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn quantize_rows<P: ParallelFor>(
        self,
        features: CpuFeatures,
        values: &[f32],
        output: QuantizedRowsMut,
        parallel: &P,
    ) -> Result<(), P::Error> {
        assert_eq!(output.integers.len(), values.len(), "integers");
        let width = output.width();
        let values = values.chunks((ROWS_PER_TASK * width).max(1));
        let tasks = values.zip(output.tasks(ROWS_PER_TASK, width));
        run_tasks(parallel, tasks, |(values, output)| {
            let range = self;
            dispatch(
                features,
                Task {
                    range,
                    values,
                    output,
                },
            );
        })
    }

    /// The same of a few rows.
    #[inline(always)]
    pub(super) fn quantize_each(self, values: &[f32], output: QuantizedRowsMut) {
        let width = output.width().max(1);
        let rows = values.chunks(width).zip(output.integers.chunks_mut(width));
        for ((values, integers), scale) in rows.zip(output.scales) {
            *scale = self.quantize_row(values, integers);
        }
    }

    /// Returns the row's scale.
    #[inline(always)]
    fn quantize_row(self, values: &[f32], integers: &mut [u8]) -> f32 {
        let scale = self.scale(values);
        let (inverse, zero_point) = (1.0 / scale, ROUNDER + f32::from(self.zero_point));
        for (integer, value) in integers.iter_mut().zip(values) {
            *integer = (value * inverse + zero_point).to_bits() as u8;
        }
        scale
    }

    #[inline(always)]
    fn scale(self, values: &[f32]) -> f32 {
        let [highest, lowest, nan] = extremes(values);
        let (above, below) = (self.qmax, self.qmax.min(self.zero_point));
        let (above, below) = (f32::from(above), f32::from(below));
        (highest / above).max(-lowest / below) + nan + LEAST
    }
}

/// Some rows.
struct Task<'a> {
    range: QuantRange,
    values: &'a [f32],
    output: QuantizedRowsMut<'a>,
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<D: IntDot>(self, _: D) {
        self.range.quantize_each(self.values, self.output);
    }
}

/// The highest and the lowest value, and a sum that is zero where all are finite, and else NaN.
#[inline(always)]
fn extremes(values: &[f32]) -> [f32; 3] {
    const LANES: usize = 16;
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut padded = [rest.first().copied().unwrap_or(0.0); LANES];
    padded[..rest.len()].copy_from_slice(rest);
    let (mut highest, mut lowest, mut nan) = ([f32::MIN; LANES], [f32::MAX; LANES], [0.0; LANES]);
    let blocks = blocks.iter().chain((!rest.is_empty()).then_some(&padded));
    for block in blocks {
        for lane in 0..LANES {
            let value = block[lane];
            let (high, low) = (&mut highest[lane], &mut lowest[lane]);
            *high = if value > *high { value } else { *high };
            *low = if value < *low { value } else { *low };
            nan[lane] += value * 0.0;
        }
    }
    let highest = highest.into_iter().fold(f32::MIN, f32::max);
    let lowest = lowest.into_iter().fold(f32::MAX, f32::min);
    [highest, lowest, nan.into_iter().sum()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Serial;

    const EVEN: QuantRange = QuantRange {
        zero_point: 128,
        qmax: 127,
    };
    const GELU: QuantRange = QuantRange {
        zero_point: 16,
        qmax: 239,
    };

    /// A row's integers less the zero point, and its scale.
    fn quantized(range: QuantRange, values: &[f32]) -> (Vec<i32>, f32) {
        let (mut integers, mut scales) = (vec![0; values.len()], [0.0]);
        let output = QuantizedRowsMut {
            integers: &mut integers,
            scales: &mut scales,
        };
        let Ok(()) = range.quantize_rows(CpuFeatures::get(), values, output, &Serial);
        let from_zero = |&integer: &u8| i32::from(integer) - i32::from(range.zero_point);
        (integers.iter().map(from_zero).collect(), scales[0])
    }

    #[test]
    fn the_farthest_value_takes_the_last_integer() {
        let of = |range, values: &[f32], scale: f32| {
            let (integers, got) = quantized(range, values);
            assert!((got / scale - 1.0).abs() < 1e-6, "{got} instead of {scale}");
            integers
        };
        assert_eq!(of(EVEN, &[1.27, 0.0, -0.5], 0.01), [127, 0, -50]);
        assert_eq!(of(EVEN, &[0.004, -1.27, 0.016], 0.01), [0, -127, 2]);
        assert_eq!(of(GELU, &[2.39, -0.16, 0.5], 0.01), [239, -16, 50]);
        // A value far below zero is not cut off.
        assert_eq!(of(GELU, &[2.39, -1.6], 0.1), [24, -16]);
    }

    #[test]
    fn every_value_is_within_half_a_scale() {
        for range in [EVEN, GELU] {
            for count in [1, 15, 16, 17, 100] {
                for largest in [1e-30, 0.3, 7.0, 1e30] {
                    let wave = |i: usize| largest * (1.7 * i as f32 + 0.3).sin();
                    let values: Vec<f32> = (0..count).map(wave).collect();
                    let (integers, scale) = quantized(range, &values);
                    for (integer, value) in integers.iter().zip(&values) {
                        let differs = (value / scale - *integer as f32).abs();
                        assert!(differs <= 0.5001, "{value} is not {integer} times {scale}");
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let (integers, scale) = quantized(EVEN, &[0.0; 5]);
        assert_eq!(integers, [0; 5]);
        assert!(scale > 0.0);
    }

    #[test]
    fn nan_and_infinity_spoil_their_row() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 16, 18] {
                let mut values = [1.0; 19];
                values[place] = value;
                let (_, scale) = quantized(EVEN, &values);
                assert!(scale.is_nan(), "{value} at {place}: {scale}");
            }
        }
    }
}
