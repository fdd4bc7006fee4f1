//! Registers of every CPU.

use super::register::{LANES, Lanes};
use crate::cpu_features::Portable;
use crate::pair::{Pair, from_bits, pair_up};

/// An array.
#[derive(Clone, Copy)]
pub(crate) struct PortableLanes([f32; LANES]);

impl PortableLanes {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Lanes for PortableLanes {
    type Token = Portable;

    #[inline(always)]
    fn splat(_: Portable, value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(_: Portable, values: &[f32; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        *into = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        self.mul(factor).add(summand)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn scale_by_pow2(self, exponents: Self) -> Self {
        self.with(exponents, |value, exponent| {
            let power = f32::from_bits(((exponent.max(-127.0) as i32 + 127) << 23) as u32);
            value * power
        })
    }

    #[inline(always)]
    fn dot2_bf16(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        let [a, b] = pair.map(from_bits);
        Self(std::array::from_fn(|lane| {
            let [c, d] = lanes[lane].map(from_bits);
            self.0[lane] + a * c + b * d
        }))
    }

    #[inline(always)]
    fn mask_neg_inf(self, mask: u16) -> Self {
        Self(std::array::from_fn(|lane| match mask >> lane & 1 {
            0 => f32::NEG_INFINITY,
            _ => self.0[lane],
        }))
    }

    #[inline(always)]
    fn to_bf16(self) -> [Pair; LANES / 2] {
        let mut pairs = [[0; 2]; LANES / 2];
        pair_up(&self.0, &mut pairs);
        pairs
    }
}
