//! Rows of f32 values as 8-bit integers with scales. A row is read twice while it is in the cache.

use super::dispatch::{Work, dispatch};
use super::dot::IntDot;
use super::rotation::GROUP;
use super::rows::QuantizedRowsMut;
use crate::CpuFeatures;
use crate::activations::ROUNDER;
use crate::parallel::{ParallelFor, run_tasks};

/// Rows of a task.
const ROWS_PER_TASK: usize = 32;
/// The sign's bit.
const SIGN: u32 = 1 << 31;
/// The scale of zeros.
const LEAST: f32 = 1e-32;

/// Which integers stand for values: a value is nearly (integer − zero point) · scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantRange {
    /// The integer for zero.
    pub zero_point: u8,
    /// Integers in use above the zero point; at most as many are in use below it.
    pub qmax: u8,
}

impl QuantRange {
    /// Symmetric about zero.
    pub const SYMMETRIC: Self = Self {
        zero_point: 128,
        qmax: 127,
    };

    /// The integers of some values, and their scale: the smallest for which all values lie between −min(zero point, qmax)
    /// and qmax scales. Zeros get a tiny positive scale; NaN or infinity among the values, a NaN scale.
    #[inline(always)]
    fn quantize(self, values: &[f32], integers: &mut [u8]) -> f32 {
        let scale = self.scale(values);
        self.round(values, scale, integers);
        scale
    }

    #[inline(always)]
    fn round(self, values: &[f32], scale: f32, integers: &mut [u8]) {
        let (inverse, zero_point) = (1.0 / scale, ROUNDER + f32::from(self.zero_point));
        for (integer, value) in integers.iter_mut().zip(values) {
            *integer = (value * inverse + zero_point).to_bits() as u8;
        }
    }

    #[inline(always)]
    fn scale(self, values: &[f32]) -> f32 {
        let [highest, lowest, nan] = extremes(values);
        let (above, below) = (self.qmax, self.qmax.min(self.zero_point));
        let (above, below) = (f32::from(above), f32::from(below));
        (highest / above).max(-lowest / below) + nan + LEAST
    }
}

/// How rows become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantizer {
    /// A scale for each row. A few dominant values in a row cost all others their precision.
    Rows(QuantRange),
    /// Groups of [`GROUP`] values, [rotated](super::rotate), with a scale each and symmetric about zero; the last group is padded
    /// with zeros. The rotation spreads a dominant value over its group, the scale keeps it from the other groups.
    RotatedGroups,
}

impl Quantizer {
    /// Integers and scales of a row of `width` values.
    pub fn shape(self, width: usize) -> [usize; 2] {
        match self {
            Self::Rows(_) => [width, 1],
            Self::RotatedGroups => [width.next_multiple_of(GROUP), width.div_ceil(GROUP)],
        }
    }

    /// The integer that stands for zero.
    pub fn zero_point(self) -> u8 {
        match self {
            Self::Rows(range) => range.zero_point,
            Self::RotatedGroups => QuantRange::SYMMETRIC.zero_point,
        }
    }

    /// Writes the integers and scales of rows of values `[rows, width]`.
    ///
    /// # Errors
    /// Those of `parallel`.
    ///
    /// # Panics
    /// If lengths do not match [`shape`](Self::shape).
    pub fn quantize_rows<P: ParallelFor>(
        self,
        features: CpuFeatures,
        (values, width): (&[f32], usize),
        output: QuantizedRowsMut,
        parallel: &P,
    ) -> Result<(), P::Error> {
        let ([integers, groups], rows) = (self.shape(width), values.len() / width.max(1));
        assert_eq!(rows * width, values.len(), "values");
        assert_eq!(output.integers.len(), rows * integers, "integers");
        assert_eq!(output.scales.len(), rows * groups, "scales");
        let values = values.chunks((ROWS_PER_TASK * width).max(1));
        let tasks = values.zip(output.tasks(ROWS_PER_TASK, integers, groups));
        run_tasks(parallel, tasks, |(values, output)| {
            let task = Task {
                quantizer: self,
                values,
                width,
                output,
            };
            dispatch(features, task);
        })
    }

    /// The same of a few rows.
    #[inline(always)]
    pub(super) fn quantize_each<D: IntDot>(
        self,
        dot: D,
        values: &[f32],
        width: usize,
        output: QuantizedRowsMut,
    ) {
        let [integers, groups] = self.shape(width);
        let rows = values.chunks(width.max(1));
        let rows = rows.zip(output.integers.chunks_mut(integers.max(1)));
        let rows = rows.zip(output.scales.chunks_mut(groups.max(1)));
        for ((values, integers), scales) in rows {
            match self {
                Self::Rows(range) => scales[0] = range.quantize(values, integers),
                Self::RotatedGroups => quantize_groups(dot, values, integers, scales),
            }
        }
    }
}

#[inline(always)]
fn quantize_groups<D: IntDot>(dot: D, values: &[f32], integers: &mut [u8], scales: &mut [f32]) {
    let groups = values
        .chunks(GROUP)
        .zip(integers.as_chunks_mut::<GROUP>().0);
    for ((values, integers), scale) in groups.zip(scales) {
        let mut group = [0.0; GROUP];
        group[..values.len()].copy_from_slice(values);
        dot.rotate(&mut group);
        *scale = symmetric_scale(&group);
        QuantRange::SYMMETRIC.round(&group, *scale, integers);
    }
}

/// The scale of a range symmetric about zero. Without their signs, the bits of floats are in the order of the floats, and
/// those of infinity and NaN come last.
#[inline(always)]
fn symmetric_scale(values: &[f32; GROUP]) -> f32 {
    let bits = values.iter().map(|value| value.to_bits() & !SIGN);
    let largest = f32::from_bits(bits.fold(0, u32::max));
    largest / f32::from(QuantRange::SYMMETRIC.qmax) + largest * 0.0 + LEAST
}

/// Some rows.
struct Task<'a> {
    quantizer: Quantizer,
    values: &'a [f32],
    width: usize,
    output: QuantizedRowsMut<'a>,
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<D: IntDot>(self, dot: D) {
        self.quantizer
            .quantize_each(dot, self.values, self.width, self.output);
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
    use crate::int8::rotate;

    const EVEN: QuantRange = QuantRange::SYMMETRIC;
    const GELU: QuantRange = QuantRange {
        zero_point: 16,
        qmax: 239,
    };

    /// A row's integers less the zero point, and its scales.
    fn integers_of(quantizer: Quantizer, values: &[f32]) -> (Vec<i32>, Vec<f32>) {
        let [width, groups] = quantizer.shape(values.len());
        let (mut integers, mut scales) = (vec![0; width], vec![0.0; groups]);
        let output = QuantizedRowsMut {
            integers: &mut integers,
            scales: &mut scales,
        };
        let rows = (values, values.len());
        let Ok(()) = quantizer.quantize_rows(CpuFeatures::get(), rows, output, &Serial);
        let from_zero = |&integer: &u8| i32::from(integer) - i32::from(quantizer.zero_point());
        (integers.iter().map(from_zero).collect(), scales)
    }

    fn quantized(range: QuantRange, values: &[f32]) -> (Vec<i32>, f32) {
        let (integers, scales) = integers_of(Quantizer::Rows(range), values);
        (integers, scales[0])
    }

    /// The rotation is undone by itself, up to a factor.
    #[test]
    fn rotated_groups_are_within_half_a_scale() {
        for count in [1, GROUP - 1, GROUP, GROUP + 1, 200] {
            let mut values: Vec<f32> = (0..count).map(|i| (1.7 * i as f32 + 0.3).sin()).collect();
            values[count / 2] = 40.0;
            let (integers, scales) = integers_of(Quantizer::RotatedGroups, &values);
            let groups = integers
                .as_chunks::<GROUP>()
                .0
                .iter()
                .zip(values.chunks(GROUP));
            for ((integers, values), scale) in groups.zip(&scales) {
                let mut rotated = [0.0; GROUP];
                rotated[..values.len()].copy_from_slice(values);
                rotate(&mut rotated);
                for (integer, rotated) in integers.iter().zip(rotated) {
                    let differs = (rotated / scale - *integer as f32).abs();
                    assert!(
                        differs <= 0.5001,
                        "{rotated} is not {integer} times {scale}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_dominant_value_costs_its_own_group_alone() {
        let mut values = [0.5; 2 * GROUP];
        let (_, before) = integers_of(Quantizer::RotatedGroups, &values);
        values[3] = 1000.0;
        let (_, after) = integers_of(Quantizer::RotatedGroups, &values);
        assert!(after[0] > before[0] && after[1] == before[1]);
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
