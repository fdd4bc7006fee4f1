//! Registers of processors with AVX-512 and its instructions for bf16, which add two products a lane at once, and of those
//! with AVX2. Such instructions are unsafe to name where the features are not known to be there, which is why this file may.

#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::lanes::Lanes;
use super::packed::{LANES, Pair, pair_up};
use super::products::{Head, Output, Scratch, attend};

/// Whether the processor has what it takes, and then it is done.
pub(super) fn attended(head: &Head, scratch: &mut Scratch, into: &mut Output) -> bool {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the processor has these features.
        unsafe { with_avx512(head, scratch, into) };
        return true;
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has these features.
        unsafe { with_avx2(head, scratch, into) };
        return true;
    }
    false
}

/// 16 registers of sums are in use at most, out of 32.
#[target_feature(enable = "avx512f,avx512bf16")]
fn with_avx512(head: &Head, scratch: &mut Scratch, into: &mut Output) {
    attend::<Avx512, 8, 4>(head, scratch, into);
}

/// 8 registers of sums are in use for most of the time, out of 16.
#[target_feature(enable = "avx2,fma")]
fn with_avx2(head: &Head, scratch: &mut Scratch, into: &mut Output) {
    attend::<Avx2, 2, 1>(head, scratch, into);
}

/// Only made in [`with_avx512`].
#[derive(Clone, Copy)]
struct Avx512(__m512);

// SAFETY, for all that follows: the processor has the features of the function into which this is inlined; arrays have
// the lengths that are read and written; a register is any bits.
impl Lanes for Avx512 {
    #[inline(always)]
    fn all(number: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(number)) }
    }

    #[inline(always)]
    fn load(numbers: &[f32; LANES]) -> Self {
        unsafe { Self(_mm512_loadu_ps(numbers.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(into.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, summand: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, summand.0)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn whole(self) -> Self {
        unsafe { Self(_mm512_roundscale_ps::<0>(self.0)) }
    }

    #[inline(always)]
    fn times_two_to(self, whole: Self) -> Self {
        unsafe { Self(_mm512_scalef_ps(self.0, whole.0)) }
    }

    #[inline(always)]
    fn plus_products(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        unsafe {
            let pair = _mm512_set1_epi32(pair.cast_signed());
            let lanes = _mm512_loadu_si512(lanes.as_ptr().cast());
            Self(_mm512_dpbf16_ps(
                self.0,
                transmute::<__m512i, __m512bh>(pair),
                transmute::<__m512i, __m512bh>(lanes),
            ))
        }
    }

    #[inline(always)]
    fn or_least(self, mask: u16) -> Self {
        unsafe {
            Self(_mm512_mask_mov_ps(
                _mm512_set1_ps(f32::NEG_INFINITY),
                mask,
                self.0,
            ))
        }
    }

    #[inline(always)]
    fn rounded(self) -> [Pair; LANES / 2] {
        unsafe { transmute(_mm512_cvtneps_pbh(self.0)) }
    }
}

/// Two halves. Only made in [`with_avx2`].
#[derive(Clone, Copy)]
struct Avx2([__m256; 2]);

impl Avx2 {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn all(number: f32) -> Self {
        unsafe { Self([_mm256_set1_ps(number); 2]) }
    }

    #[inline(always)]
    fn load(numbers: &[f32; LANES]) -> Self {
        let halves = numbers.as_chunks::<8>().0;
        unsafe {
            Self([
                _mm256_loadu_ps(halves[0].as_ptr()),
                _mm256_loadu_ps(halves[1].as_ptr()),
            ])
        }
    }

    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        for (half, into) in self.0.into_iter().zip(into.as_chunks_mut::<8>().0) {
            unsafe { _mm256_storeu_ps(into.as_mut_ptr(), half) }
        }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, summand: Self) -> Self {
        let half = |at: usize| unsafe { _mm256_fmadd_ps(self.0[at], factor.0[at], summand.0[at]) };
        Self([half(0), half(1)])
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn whole(self) -> Self {
        Self(
            self.0
                .map(|half| unsafe { _mm256_round_ps::<_MM_FROUND_TO_NEAREST_INT>(half) }),
        )
    }

    #[inline(always)]
    fn times_two_to(self, whole: Self) -> Self {
        self.with(whole, |number, whole| unsafe {
            let exponent = _mm256_cvtps_epi32(_mm256_max_ps(whole, _mm256_set1_ps(-127.0)));
            let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)));
            _mm256_mul_ps(number, _mm256_castsi256_ps(bits))
        })
    }

    #[inline(always)]
    fn plus_products(self, pair: Pair, lanes: &[Pair; LANES]) -> Self {
        let lower = f32::from_bits(pair << 16);
        let upper = f32::from_bits(pair & 0xffff_0000);
        let half = |sum: __m256, lanes: &[Pair; 8]| unsafe {
            let lanes = _mm256_loadu_si256(lanes.as_ptr().cast());
            let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(lanes));
            let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            let second = _mm256_castsi256_ps(_mm256_and_si256(lanes, mask));
            let sum = _mm256_fmadd_ps(_mm256_set1_ps(upper), second, sum);
            _mm256_fmadd_ps(_mm256_set1_ps(lower), first, sum)
        };
        let lanes = lanes.as_chunks().0;
        Self([half(self.0[0], &lanes[0]), half(self.0[1], &lanes[1])])
    }

    #[inline(always)]
    fn or_least(self, mask: u16) -> Self {
        let half = |sums: __m256, mask: u16| unsafe {
            let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(mask)), bits);
            let seen = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bits));
            _mm256_blendv_ps(_mm256_set1_ps(f32::NEG_INFINITY), sums, seen)
        };
        Self([half(self.0[0], mask & 0xff), half(self.0[1], mask >> 8)])
    }

    #[inline(always)]
    fn rounded(self) -> [Pair; LANES / 2] {
        let mut pairs = [0; LANES / 2];
        pair_up(&self.numbers(), &mut pairs);
        pairs
    }
}
