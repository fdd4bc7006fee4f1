//! Rows of numbers as 8-bit integers, as an operator for ONNX Runtime's session on a processor. Its own have one scale for
//! all rows, or take a dozen nodes and four passes over the numbers. This reads a row twice while it is in the cache.

use std::sync::{Mutex, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_models::contract::QUANTIZE_ROWS;

use super::activations::ROUNDER;
use super::extract;
use super::integers::{Products, Work, run};

/// x [.., n] → integers u8 [.., n] and steps [.., 1]: a number is nearly (integer − `zero`) · its row's step. The step is
/// the smallest for which all of the row lie between −min(`zero`, `above`) and `above` steps; that of a row of zeros is not
/// zero, and that of a row with something that is no finite number is none.
pub(super) struct QuantizeRows;

impl Operator for QuantizeRows {
    type Kernel<'attr> = Range;

    fn name(&self) -> &str {
        QUANTIZE_ROWS
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Uint8, TensorElementType::Float32].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Range> {
        Range::of(context, ["zero", "above"])
    }
}

/// [.., n] → [.., 1].
fn steps_shape(shape: &[i64]) -> Vec<i64> {
    let mut shape = shape.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = 1;
    }
    shape
}

/// Which integers stand for a row's numbers.
#[derive(Clone, Copy)]
pub(super) struct Range {
    /// The integer for zero.
    zero: u8,
    /// How many above it are used, and no more below it.
    above: u8,
}

/// Rows that a thread takes at once.
const AT_ONCE: usize = 32;

impl Kernel for Range {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong("an input or output is missing");
        let numbers = context.input(0)?.ok_or_else(missing)?;
        let (shape, numbers) = extract::<f32>(&numbers)?;
        let width = shape.last().map_or(1, |&width| (width as usize).max(1));
        let steps_shape = steps_shape(&shape);
        let mut integers = context.output(0, shape)?.ok_or_else(missing)?;
        let mut steps = context.output(1, steps_shape)?.ok_or_else(missing)?;
        let (_, integers) = integers.try_extract_tensor_mut::<u8>()?;
        let (_, steps) = steps.try_extract_tensor_mut::<f32>()?;
        let rows = numbers
            .chunks(AT_ONCE * width)
            .zip(integers.chunks_mut(AT_ONCE * width))
            .zip(steps.chunks_mut(AT_ONCE));
        let tasks: Vec<_> = rows.map(Mutex::new).collect();
        let range = *self;
        context.par_for(tasks.len(), 0, |index| {
            let mut task = tasks[index].lock().unwrap_or_else(PoisonError::into_inner);
            let ((numbers, integers), steps) = &mut *task;
            run(Task {
                range,
                width,
                numbers,
                integers,
                steps,
            });
        })
    }
}

/// Some rows.
struct Task<'a> {
    range: Range,
    width: usize,
    numbers: &'a [f32],
    integers: &'a mut [u8],
    steps: &'a mut [f32],
}

impl Work for Task<'_> {
    #[inline(always)]
    fn with<P: Products>(self) {
        let integers = self.integers.chunks_mut(self.width);
        let rows = self.numbers.chunks(self.width).zip(integers);
        for ((numbers, integers), step) in rows.zip(self.steps) {
            *step = self.range.quantize(numbers, integers);
        }
    }
}

/// The step of a row of zeros.
const LEAST: f32 = 1e-32;

impl Range {
    /// As far below zero as above it.
    #[cfg(test)]
    pub(super) const EVEN: Self = Self {
        zero: 128,
        above: 127,
    };

    /// Of the attributes with these names.
    pub(super) fn of(context: &KernelContext, [zero, above]: [&str; 2]) -> ort::Result<Self> {
        let integer = |name: &str| {
            let value = context.get::<i64>(name).unwrap_or(0);
            let problem = || ort::Error::new(format!("{name} is {value}, expected 1 to 255"));
            let integer = u8::try_from(value).ok().filter(|&integer| integer > 0);
            integer.ok_or_else(problem)
        };
        Ok(Self {
            zero: integer(zero)?,
            above: integer(above)?,
        })
    }

    /// Returns the row's step.
    #[inline(always)]
    pub(super) fn quantize(self, numbers: &[f32], integers: &mut [u8]) -> f32 {
        let step = self.step(numbers);
        let (steps_in_one, zero) = (1.0 / step, ROUNDER + f32::from(self.zero));
        for (integer, number) in integers.iter_mut().zip(numbers) {
            *integer = (number * steps_in_one + zero).to_bits() as u8;
        }
        step
    }

    #[inline(always)]
    fn step(self, numbers: &[f32]) -> f32 {
        let [highest, lowest, none] = extremes(numbers);
        let (above, below) = (f32::from(self.above), f32::from(self.above.min(self.zero)));
        (highest / above).max(-lowest / below) + none + LEAST
    }
}

/// The highest and the lowest number, and a sum that is zero where all are finite, and else no number.
#[inline(always)]
fn extremes(numbers: &[f32]) -> [f32; 3] {
    const LANES: usize = 16;
    let (blocks, rest) = numbers.as_chunks::<LANES>();
    let mut padded = [rest.first().copied().unwrap_or(0.0); LANES];
    padded[..rest.len()].copy_from_slice(rest);
    let (mut highest, mut lowest, mut none) = ([f32::MIN; LANES], [f32::MAX; LANES], [0.0; LANES]);
    let blocks = blocks.iter().chain((!rest.is_empty()).then_some(&padded));
    for block in blocks {
        for lane in 0..LANES {
            let number = block[lane];
            highest[lane] = if number > highest[lane] {
                number
            } else {
                highest[lane]
            };
            lowest[lane] = if number < lowest[lane] {
                number
            } else {
                lowest[lane]
            };
            none[lane] += number * 0.0;
        }
    }
    let highest = highest.into_iter().fold(f32::MIN, f32::max);
    let lowest = lowest.into_iter().fold(f32::MAX, f32::min);
    [highest, lowest, none.into_iter().sum()]
}

fn wrong(problem: &str) -> ort::Error {
    super::wrong(QUANTIZE_ROWS, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: Range = Range::EVEN;
    const GELU: Range = Range {
        zero: 16,
        above: 239,
    };

    fn quantized(range: Range, numbers: &[f32]) -> (Vec<i32>, f32) {
        let mut integers = vec![0; numbers.len()];
        let step = range.quantize(numbers, &mut integers);
        let from_zero = |&integer: &u8| i32::from(integer) - i32::from(range.zero);
        (integers.iter().map(from_zero).collect(), step)
    }

    #[test]
    fn the_farthest_number_takes_the_last_integer() {
        let of = |range, numbers: &[f32], step: f32| {
            let (integers, got) = quantized(range, numbers);
            assert!((got / step - 1.0).abs() < 1e-6, "{got} instead of {step}");
            integers
        };
        assert_eq!(of(EVEN, &[1.27, 0.0, -0.5], 0.01), [127, 0, -50]);
        assert_eq!(of(EVEN, &[0.004, -1.27, 0.016], 0.01), [0, -127, 2]);
        assert_eq!(of(GELU, &[2.39, -0.16, 0.5], 0.01), [239, -16, 50]);
        // What lies far below zero is not cut off.
        assert_eq!(of(GELU, &[2.39, -1.6], 0.1), [24, -16]);
    }

    #[test]
    fn every_number_is_within_half_a_step() {
        for range in [EVEN, GELU] {
            for count in [1, 15, 16, 17, 100] {
                for largest in [1e-30, 0.3, 7.0, 1e30] {
                    let wave = |i: usize| largest * (1.7 * i as f32 + 0.3).sin();
                    let numbers: Vec<f32> = (0..count).map(wave).collect();
                    let (integers, step) = quantized(range, &numbers);
                    for (integer, number) in integers.iter().zip(&numbers) {
                        let apart = (number / step - *integer as f32).abs();
                        assert!(apart <= 0.5001, "{number} is not {integer} steps of {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let (integers, step) = quantized(EVEN, &[0.0; 5]);
        assert_eq!(integers, [0; 5]);
        assert!(step > 0.0);
    }

    #[test]
    fn what_is_no_finite_number_spoils_its_row() {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 16, 18] {
                let mut numbers = [1.0; 19];
                numbers[place] = number;
                let (_, step) = quantized(EVEN, &numbers);
                assert!(step.is_nan(), "{number} at {place}: {step}");
            }
        }
    }
}
