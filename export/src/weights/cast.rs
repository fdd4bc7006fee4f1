//! Casts between float types: exact to a wider type, else rounded to nearest, ties to even.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use seeward_models::checkpoint::Dtype;
use seeward_models::{Error, Result};

use crate::data_type::DataType;

/// Number of elements that are cast at a time, on the stack.
const BLOCK: usize = 1024;

/// The ONNX element type of a checkpoint's.
pub(super) fn same(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::F32 => DataType::F32,
        Dtype::F16 => DataType::F16,
        Dtype::Bf16 => DataType::Bf16,
    }
}

/// Casts little-endian elements of a checkpoint; `into` has as many, of type `to`.
///
/// # Errors
/// A value outside the range of `to`.
pub(super) fn cast(from: Dtype, elements: &[u8], to: DataType, into: &mut [u8]) -> Result<()> {
    let mut block = [0.0; BLOCK];
    let stored = elements.chunks(BLOCK * from.size());
    for (stored, into) in stored.zip(into.chunks_mut(BLOCK * to.size())) {
        let values = &mut block[..stored.len() / from.size()];
        widen_block(from, stored, values);
        let in_range = match to {
            DataType::F32 => write_f32(values, into),
            DataType::F16 => write_f16(values, into),
            DataType::Bf16 => write_bf16(values, into),
            _ => return Err(Error::invalid(format!("weights are floats, not {to:?}"))),
        };
        if !in_range {
            return Err(out_of_range(values, to));
        }
    }
    Ok(())
}

/// Writes values in bf16, little-endian; `into` has as many.
///
/// # Errors
/// A value outside the range of bf16.
pub(super) fn to_bf16(values: &[f32], into: &mut [u8]) -> Result<()> {
    match write_bf16(values, into) {
        true => Ok(()),
        false => Err(out_of_range(values, DataType::Bf16)),
    }
}

/// Little-endian elements of a checkpoint as f32; `values` has as many.
pub(super) fn widen(from: Dtype, elements: &[u8], values: &mut [f32]) {
    let stored = elements.chunks(BLOCK * from.size());
    for (stored, values) in stored.zip(values.chunks_mut(BLOCK)) {
        widen_block(from, stored, values);
    }
}

/// At most [`BLOCK`] elements of a checkpoint as f32.
fn widen_block(from: Dtype, stored: &[u8], values: &mut [f32]) {
    let halves = stored.as_chunks::<2>().0;
    match from {
        Dtype::F32 => {
            let elements = stored.as_chunks::<4>().0;
            let pairs = values.iter_mut().zip(elements);
            pairs.for_each(|(value, &bytes)| *value = f32::from_le_bytes(bytes));
        }
        Dtype::Bf16 => {
            let pairs = values.iter_mut().zip(halves);
            pairs.for_each(|(value, &[low, high])| *value = f32::from_le_bytes([0, 0, low, high]));
        }
        Dtype::F16 => {
            let mut block = [f16::ZERO; BLOCK];
            let block = &mut block[..values.len()];
            let pairs = block.iter_mut().zip(halves);
            pairs.for_each(|(half, &bytes)| *half = f16::from_le_bytes(bytes));
            block.convert_to_f32_slice(values);
        }
    }
}

// Each returns whether all values are in range; infinite inputs are not.

fn write_f32(values: &[f32], into: &mut [u8]) -> bool {
    let pairs = into.as_chunks_mut::<4>().0.iter_mut().zip(values);
    pairs.for_each(|(bytes, value)| *bytes = value.to_le_bytes());
    !values.iter().any(|value| value.is_infinite())
}

fn write_f16(values: &[f32], into: &mut [u8]) -> bool {
    let mut block = [f16::ZERO; BLOCK];
    let block = &mut block[..values.len()];
    block.convert_from_f32_slice(values);
    let pairs = into.as_chunks_mut::<2>().0.iter_mut().zip(&*block);
    pairs.for_each(|(bytes, half)| *bytes = half.to_le_bytes());
    !block.iter().any(|half| half.is_infinite())
}

fn write_bf16(values: &[f32], into: &mut [u8]) -> bool {
    let mut in_range = true;
    for (bytes, &value) in into.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        let half = bf16::from_f32(value);
        in_range &= !half.is_infinite();
        *bytes = half.to_le_bytes();
    }
    in_range
}

/// The error that names the value of the largest magnitude.
fn out_of_range(values: &[f32], to: DataType) -> Error {
    let larger = |a: f32, &b: &f32| if b.abs() > a.abs() { b } else { a };
    let value = values.iter().fold(0.0, larger);
    Error::invalid(match to {
        DataType::F16 => {
            format!("{value} is outside fp16's range of ±65504 (export with --dtype bf16 or fp32)")
        }
        to => format!("{value} is outside the range of {to:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast_f32(values: &[f32], to: DataType) -> Result<Vec<u16>> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut into = vec![0; values.len() * 2];
        cast(Dtype::F32, &bytes, to, &mut into)?;
        let halves = into.as_chunks::<2>().0.iter();
        Ok(halves.map(|&half| u16::from_le_bytes(half)).collect())
    }

    fn widened(from: Dtype, halves: &[u16]) -> Vec<u32> {
        let bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        let mut into = vec![0; halves.len() * 4];
        cast(from, &bytes, DataType::F32, &mut into).unwrap();
        let elements = into.as_chunks::<4>().0.iter();
        elements.map(|&e| u32::from_le_bytes(e)).collect()
    }

    #[test]
    fn halves_are_widened_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc100, -2.5),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x83ff, -1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3555, 0.333_251_95),
        ];
        for (half, expected) in cases {
            let got = widened(Dtype::F16, &[half]);
            assert_eq!(got, [f32::to_bits(expected)], "{half:#06x}");
        }
        assert!(f32::from_bits(widened(Dtype::F16, &[0x7e01])[0]).is_nan());
        assert_eq!(
            widened(Dtype::Bf16, &[0x3f80, 0xc020]),
            [1.0_f32, -2.5].map(f32::to_bits)
        );
    }

    #[test]
    fn ties_go_to_even_and_everything_else_to_the_nearest() {
        // One unit in the last place above 1 is 2^-10 in fp16, 2^-7 in bf16.
        for (to, one, unit) in [
            (DataType::F16, 0x3c00, 2f32.powi(-10)),
            (DataType::Bf16, 0x3f80, 2f32.powi(-7)),
        ] {
            let units = [0.0, 0.5, 0.501, 1.0, 1.499, 1.5, 2.5];
            let values = units.map(|units| 1.0 + units * unit);
            let expected = [0, 0, 1, 1, 1, 2, 2].map(|units| one + units);
            assert_eq!(cast_f32(&values, to).unwrap(), expected, "{to:?}");
            let negative = expected.map(|bits| bits | 0x8000);
            assert_eq!(cast_f32(&values.map(|v| -v), to).unwrap(), negative);
        }
        // Half of fp16's smallest value is a tie with zero; a little more is not.
        let tiny = [2f32.powi(-25), 1.001 * 2f32.powi(-25), 1e-6];
        assert_eq!(cast_f32(&tiny, DataType::F16).unwrap(), [0, 1, 17]);
    }

    #[test]
    fn every_half_survives_a_round_trip_through_f32() {
        let finite = |infinity: u16| move |bits: &u16| bits & infinity != infinity;
        for (from, to, infinity) in [
            (Dtype::F16, DataType::F16, 0x7c00),
            (Dtype::Bf16, DataType::Bf16, 0x7f80),
        ] {
            let halves: Vec<u16> = (0..=u16::MAX).filter(finite(infinity)).collect();
            let wide: Vec<f32> = widened(from, &halves)
                .into_iter()
                .map(f32::from_bits)
                .collect();
            assert!(cast_f32(&wide, to).unwrap() == halves);
        }
    }

    #[test]
    fn a_value_out_of_range_is_reported() {
        assert_eq!(
            cast_f32(&[65519.0, -65504.0], DataType::F16).unwrap(),
            [0x7bff, 0xfbff]
        );
        let mut many = vec![1.0; 3 * BLOCK];
        many[2 * BLOCK + 5] = -65520.0;
        let text = cast_f32(&many, DataType::F16).unwrap_err().to_string();
        assert!(
            text.starts_with("-65520 is outside fp16's range of ±65504"),
            "{text}"
        );
        let text = cast_f32(&[f32::MAX], DataType::Bf16).unwrap_err();
        assert!(text.to_string().contains("outside the range of Bf16"));
        let text = cast_f32(&[0.0, f32::INFINITY], DataType::F16).unwrap_err();
        assert!(text.to_string().starts_with("inf is outside"));
    }
}
