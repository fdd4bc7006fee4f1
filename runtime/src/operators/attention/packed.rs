//! Keys and values of a head as the products read them: rounded to bf16, in blocks of [`LANES`] keys.

/// Numbers that a register holds, and keys of a block.
pub(super) const LANES: usize = 16;

/// Two bf16 numbers, the first in the lower half.
pub(super) type Pair = u32;

/// A head's keys and values. Keys beyond the last are zero.
pub(super) struct PackedHead {
    /// [blocks, pairs of a head's numbers, keys].
    pub(super) keys: Vec<Pair>,
    /// [blocks, pairs of keys, registers of a head's numbers, numbers].
    pub(super) values: Vec<Pair>,
}

/// Rows of one tensor that hold a head's numbers: `size` of them, every `stride`, from the first on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) stride: usize,
    pub(super) size: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.numbers[index * self.stride..][..self.size]
    }
}

impl PackedHead {
    pub(super) fn new(keys: Rows, values: Rows, tokens: usize) -> Self {
        Self {
            keys: pack_keys(keys, tokens),
            values: pack_values(values, tokens),
        }
    }
}

/// Pairs of so many numbers.
pub(super) fn pairs(size: usize) -> usize {
    size.div_ceil(2)
}

/// Registers of so many numbers.
pub(super) fn registers(size: usize) -> usize {
    size.div_ceil(LANES)
}

fn pack_keys(keys: Rows, tokens: usize) -> Vec<Pair> {
    let pairs = pairs(keys.size);
    let mut packed = vec![0; tokens.div_ceil(LANES) * pairs * LANES];
    let mut row = vec![0; pairs];
    for (first, block) in (0..tokens)
        .step_by(LANES)
        .zip(packed.chunks_mut(pairs * LANES))
    {
        for key in first..tokens.min(first + LANES) {
            pair_up(keys.row(key), &mut row);
            let column = block[key - first..].iter_mut().step_by(LANES);
            column.zip(&row).for_each(|(to, &pair)| *to = pair);
        }
    }
    packed
}

fn pack_values(values: Rows, tokens: usize) -> Vec<Pair> {
    let width = registers(values.size) * LANES;
    let mut packed = vec![0; tokens.div_ceil(LANES) * (LANES / 2) * width];
    for (pair, row) in packed
        .chunks_mut(width)
        .take(tokens.div_ceil(2))
        .enumerate()
    {
        let first = values.row(2 * pair);
        if 2 * pair + 1 < tokens {
            let both = first.iter().zip(values.row(2 * pair + 1));
            row.iter_mut()
                .zip(both)
                .for_each(|(to, (&a, &b))| *to = rounded(a) | rounded(b) << 16);
        } else {
            row.iter_mut()
                .zip(first)
                .for_each(|(to, &a)| *to = rounded(a));
        }
    }
    packed
}

/// Neighbours of `numbers` as pairs; an odd one is paired with zero.
pub(super) fn pair_up(numbers: &[f32], into: &mut [Pair]) {
    let (whole, rest) = numbers.as_chunks::<2>();
    let pairs = into.iter_mut().zip(whole);
    pairs.for_each(|(to, &[a, b])| *to = rounded(a) | rounded(b) << 16);
    if let (&[last], Some(to)) = (rest, into.get_mut(whole.len())) {
        *to = rounded(last);
    }
}

/// The bits of the nearest bf16, ties to even.
pub(super) fn rounded(number: f32) -> u32 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if number.is_nan() { 0x7fc0 } else { nearest }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn numbers_are_rounded_as_bf16_is() {
        let bits = (0..=u16::MAX).map(|high| u32::from(high) << 16);
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            for number in bits.clone().map(|high| f32::from_bits(high | low)) {
                let expected = bf16::from_f32(number);
                let got = bf16::from_bits(rounded(number) as u16);
                assert!(got.to_bits() == expected.to_bits() || number.is_nan() && got.is_nan());
            }
        }
    }

    #[test]
    fn what_is_beyond_the_last_key_is_zero() {
        let numbers: Vec<f32> = (1..=9).map(|n| n as f32).collect();
        let rows = Rows {
            numbers: &numbers,
            stride: 3,
            size: 3,
        };
        let head = PackedHead::new(rows, rows, 3);
        let one = |n: f32| rounded(n);
        let two = |a: f32, b: f32| rounded(a) | rounded(b) << 16;
        assert_eq!(head.keys.len(), 2 * LANES);
        assert_eq!(
            head.keys[..4],
            [two(1.0, 2.0), two(4.0, 5.0), two(7.0, 8.0), 0]
        );
        assert_eq!(head.keys[LANES..][..4], [one(3.0), one(6.0), one(9.0), 0]);
        assert_eq!(head.values.len(), LANES / 2 * LANES);
        assert_eq!(
            head.values[..4],
            [two(1.0, 4.0), two(2.0, 5.0), two(3.0, 6.0), 0]
        );
        assert_eq!(head.values[LANES..][..4], [one(7.0), one(8.0), one(9.0), 0]);
        assert!(head.values[2 * LANES..].iter().all(|&pair| pair == 0));
    }
}
