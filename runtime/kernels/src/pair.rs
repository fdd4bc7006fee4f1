//! f32 values rounded to bf16, two next to each other, as the instructions for dot products read them.

/// The bits of two bf16 values.
pub(crate) type Pair = [u16; 2];

/// Neighbours of `values` as pairs; an odd one is paired with zero.
pub(crate) fn pair_up(values: &[f32], into: &mut [Pair]) {
    let (twos, rest) = values.as_chunks::<2>();
    let pairs = into.iter_mut().zip(twos);
    pairs.for_each(|(to, &[a, b])| *to = pair(a, b));
    if let (&[last], Some(to)) = (rest, into.get_mut(twos.len())) {
        *to = pair(last, 0.0);
    }
}

/// Both values in bf16.
pub(crate) fn pair(first: f32, second: f32) -> Pair {
    [to_bits(first), to_bits(second)]
}

/// The bits of the nearest bf16, ties to even.
pub(crate) fn to_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if value.is_nan() {
        0x7fc0
    } else {
        nearest as u16
    }
}

/// The value of these bits.
pub(crate) fn from_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn values_are_rounded_as_bf16_is() {
        let bits = (0..=u16::MAX).map(|high| u32::from(high) << 16);
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            for value in bits.clone().map(|high| f32::from_bits(high | low)) {
                let expected = bf16::from_f32(value);
                let got = bf16::from_bits(to_bits(value));
                assert!(got.to_bits() == expected.to_bits() || value.is_nan() && got.is_nan());
            }
        }
    }

    #[test]
    fn an_odd_value_is_paired_with_zero() {
        let mut pairs = [[7; 2]; 2];
        pair_up(&[1.0, 2.0, 3.0], &mut pairs);
        assert_eq!(pairs, [pair(1.0, 2.0), pair(3.0, 0.0)]);
    }
}
