//! Registers of AVX-512 with its dot products of bf16 pairs, and of AVX2.
//!
//! A register's field is private and every constructor takes the token of its instructions: a register proves them, as the
//! token does.

#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::register::{LANES, Lanes};
use crate::cpu_features::{Avx2, Avx512Bf16};
use crate::pair::{Pair, pair_up};

/// One register of 16 values.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Lanes(__m512);

impl Lanes for Avx512Lanes {
    type Token = Avx512Bf16;

    #[inline(always)]
    fn splat(_: Avx512Bf16, value: f32) -> Self {
        // SAFETY: the token proves the instructions.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(_: Avx512Bf16, values: &[f32; LANES]) -> Self {
        // SAFETY: the token proves the instructions; 16 values are there to read.
        unsafe { Self(_mm512_loadu_ps(values.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        // SAFETY: a register proves its instructions; there is room for 16 values.
        unsafe { _mm512_storeu_ps(into.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, summand.0)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_roundscale_ps::<0>(self.0)) }
    }

    #[inline(always)]
    fn scale_by_pow2(self, exponents: Self) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe { Self(_mm512_scalef_ps(self.0, exponents.0)) }
    }

    #[inline(always)]
    fn dot2_bf16(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        // SAFETY: a register proves its instructions; 16 pairs are there to read; 32 bf16 values are 512 bits of any kind.
        unsafe {
            let pair = _mm512_set1_epi32(transmute::<Pair, i32>(pair));
            let lanes = _mm512_loadu_si512(lanes.as_ptr().cast());
            Self(_mm512_dpbf16_ps(
                self.0,
                transmute::<__m512i, __m512bh>(pair),
                transmute::<__m512i, __m512bh>(lanes),
            ))
        }
    }

    #[inline(always)]
    fn mask_neg_inf(self, mask: u16) -> Self {
        // SAFETY: a register proves its instructions.
        unsafe {
            let least = _mm512_set1_ps(f32::NEG_INFINITY);
            Self(_mm512_mask_mov_ps(least, mask, self.0))
        }
    }

    #[inline(always)]
    fn to_bf16(self) -> [Pair; LANES / 2] {
        // SAFETY: a register proves its instructions; 16 bf16 values are 8 pairs.
        unsafe { transmute::<__m256bh, [Pair; LANES / 2]>(_mm512_cvtneps_pbh(self.0)) }
    }
}

/// Two registers of eight values.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Lanes([__m256; 2]);

impl Avx2Lanes {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }
}

impl Lanes for Avx2Lanes {
    type Token = Avx2;

    #[inline(always)]
    fn splat(_: Avx2, value: f32) -> Self {
        // SAFETY: the token proves the instructions.
        unsafe { Self([_mm256_set1_ps(value); 2]) }
    }

    #[inline(always)]
    fn load(_: Avx2, values: &[f32; LANES]) -> Self {
        let [lower, upper] = halves(values);
        // SAFETY: the token proves the instructions; twice 8 values are there to read.
        unsafe {
            Self([
                _mm256_loadu_ps(lower.as_ptr()),
                _mm256_loadu_ps(upper.as_ptr()),
            ])
        }
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        for (half, into) in self.0.into_iter().zip(into.as_chunks_mut::<8>().0) {
            // SAFETY: a register proves its instructions; there is room for 8 values.
            unsafe { _mm256_storeu_ps(into.as_mut_ptr(), half) }
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        self.with(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        self.with(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        self.with(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        let half = |at: usize| {
            // SAFETY: a register proves its instructions.
            unsafe { _mm256_fmadd_ps(self.0[at], factor.0[at], summand.0[at]) }
        };
        Self([half(0), half(1)])
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: a register proves its instructions.
        self.with(other, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: a register proves its instructions.
        let half = |half| unsafe { _mm256_round_ps::<_MM_FROUND_TO_NEAREST_INT>(half) };
        Self(self.0.map(half))
    }

    #[inline(always)]
    fn scale_by_pow2(self, exponents: Self) -> Self {
        // SAFETY: a register proves its instructions.
        self.with(exponents, |value, exponents| unsafe {
            let exponents = _mm256_max_ps(exponents, _mm256_set1_ps(-127.0));
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponents), _mm256_set1_epi32(127));
            _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        })
    }

    #[inline(always)]
    fn dot2_bf16(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        let [lower, upper] = halves(lanes);
        // SAFETY: a register proves its instructions; twice 8 pairs are there to read; a pair is 32 bits of any kind.
        unsafe {
            let factors = _mm256_set1_epi32(transmute::<Pair, i32>(pair));
            let lower = _mm256_loadu_si256(lower.as_ptr().cast());
            let upper = _mm256_loadu_si256(upper.as_ptr().cast());
            let factor = second(factors);
            let sums = [
                _mm256_fmadd_ps(factor, second(lower), self.0[0]),
                _mm256_fmadd_ps(factor, second(upper), self.0[1]),
            ];
            let factor = first(factors);
            Self([
                _mm256_fmadd_ps(factor, first(lower), sums[0]),
                _mm256_fmadd_ps(factor, first(upper), sums[1]),
            ])
        }
    }

    #[inline(always)]
    fn mask_neg_inf(self, mask: u16) -> Self {
        let half = |sums: __m256, mask: u16| {
            // SAFETY: a register proves its instructions.
            unsafe {
                let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(mask)), bits);
                let is_set = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bits));
                _mm256_blendv_ps(_mm256_set1_ps(f32::NEG_INFINITY), sums, is_set)
            }
        };
        Self([half(self.0[0], mask & 0xff), half(self.0[1], mask >> 8)])
    }

    #[inline(always)]
    fn to_bf16(self) -> [Pair; LANES / 2] {
        let mut pairs = [[0; 2]; LANES / 2];
        pair_up(&self.to_array(), &mut pairs);
        pairs
    }
}

/// The first value of each pair.
#[target_feature(enable = "avx2")]
#[inline]
fn first(pairs: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))
}

/// The second value of each pair.
#[target_feature(enable = "avx2")]
#[inline]
fn second(pairs: __m256i) -> __m256 {
    let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    _mm256_castsi256_ps(_mm256_and_si256(pairs, mask))
}

#[inline(always)]
fn halves<T>(values: &[T; LANES]) -> [&[T; LANES / 2]; 2] {
    let halves = values.as_chunks().0;
    [&halves[0], &halves[1]]
}
