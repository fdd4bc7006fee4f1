//! Registers of [`LANES`] f32 numbers.

use super::packed::{LANES, Pair, pair_up};

/// What the products need of a register. Where numbers are compared, one that is no number comes through.
pub(super) trait Lanes: Copy {
    fn all(number: f32) -> Self;
    fn load(numbers: &[f32; LANES]) -> Self;
    fn store(self, into: &mut [f32; LANES]);
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// A product and a sum, rounded once or twice.
    fn times_plus(self, factor: Self, summand: Self) -> Self;
    /// The greater number of each lane; `other`'s where one is no number.
    fn max(self, other: Self) -> Self;
    /// The nearest whole numbers; they are not large.
    fn whole(self) -> Self;
    /// Times 2 to whole numbers between −150 and 0; may be 0 from −126 on.
    fn times_two_to(self, whole: Self) -> Self;
    /// Adds to each lane both products of `pair` with the lane's own.
    fn plus_products(self, pair: Pair, lanes: &[Pair; LANES]) -> Self;
    /// −∞ in lanes whose bit is not set.
    fn or_least(self, mask: u16) -> Self;
    /// Neighbours as pairs of bf16.
    fn rounded(self) -> [Pair; LANES / 2];

    #[inline(always)]
    fn zero() -> Self {
        Self::all(0.0)
    }

    #[inline(always)]
    fn numbers(self) -> [f32; LANES] {
        let mut numbers = [0.0; LANES];
        self.store(&mut numbers);
        numbers
    }
}

/// On any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn all(number: f32) -> Self {
        Self([number; LANES])
    }

    #[inline(always)]
    fn load(numbers: &[f32; LANES]) -> Self {
        Self(*numbers)
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        *into = self.0;
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, summand: Self) -> Self {
        self.times(factor).plus(summand)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn whole(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn times_two_to(self, whole: Self) -> Self {
        self.with(whole, |number, whole| {
            let power = f32::from_bits(((whole.max(-127.0) as i32 + 127) << 23) as u32);
            number * power
        })
    }

    #[inline(always)]
    fn plus_products(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        let both = |pair: Pair| {
            (
                f32::from_bits(pair << 16),
                f32::from_bits(pair & 0xffff_0000),
            )
        };
        let (a, b) = both(pair);
        Self(std::array::from_fn(|lane| {
            let (c, d) = both(lanes[lane]);
            self.0[lane] + a * c + b * d
        }))
    }

    #[inline(always)]
    fn or_least(self, mask: u16) -> Self {
        Self(std::array::from_fn(|lane| match mask >> lane & 1 {
            0 => f32::NEG_INFINITY,
            _ => self.0[lane],
        }))
    }

    #[inline(always)]
    fn rounded(self) -> [Pair; LANES / 2] {
        let mut pairs = [0; LANES / 2];
        pair_up(&self.0, &mut pairs);
        pairs
    }
}
