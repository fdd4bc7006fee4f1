//! Sums by the instructions of AVX-512 that add four products of bytes at once (VNNI), and by those of AVX2 that add two
//! products of 16 bits. Such instructions are unsafe to name where the features are not known to be there, which is why this file may.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use seeward_models::contract::PANEL_OUTPUTS;

use super::{Group, Inputs, Products, ROWS, Sums, Work};

/// Registers of a panel's sums of one row.
const REGISTERS: usize = PANEL_OUTPUTS / 16;

/// Does the work if the processor has what it takes, and else gives it back.
pub(super) fn left<W: Work>(work: W) -> Option<W> {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has these features.
        unsafe { with_vnni(work) };
        return None;
    }
    left_by_avx2(work)
}

/// The same without AVX-512.
pub(in super::super) fn left_by_avx2<W: Work>(work: W) -> Option<W> {
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has these features.
        unsafe { with_avx2(work) };
        return None;
    }
    Some(work)
}

#[target_feature(enable = "avx512bw,avx512vnni")]
fn with_vnni<W: Work>(work: W) {
    work.with::<Vnni>();
}

#[target_feature(enable = "avx2,fma")]
fn with_avx2<W: Work>(work: W) {
    work.with::<Avx2>();
}

/// 24 registers of sums are in use, out of 32. Only named in [`with_vnni`].
struct Vnni;

impl Products for Vnni {
    #[inline(always)]
    fn sums(start: &[i32; PANEL_OUTPUTS], inputs: &[Inputs], weights: &[Group]) -> Sums {
        let mut sums: Sums = [[0; PANEL_OUTPUTS]; ROWS];
        // SAFETY: the processor has the features of the function into which this is inlined; what is read and written
        // are whole registers of `start`, of a group's weights, and of the sums.
        unsafe {
            let start = start.as_ptr();
            let first: [__m512i; REGISTERS] =
                std::array::from_fn(|at| _mm512_loadu_si512(start.add(16 * at).cast()));
            let mut registers = [first; ROWS];
            for (inputs, weights) in inputs.iter().zip(weights) {
                let weights = weights.as_ptr();
                let weights: [__m512i; REGISTERS] =
                    std::array::from_fn(|at| _mm512_loadu_si512(weights.add(16 * at).cast()));
                for (registers, inputs) in registers.iter_mut().zip(inputs) {
                    let inputs = _mm512_set1_epi32(i32::from_le_bytes(*inputs));
                    for (sums, weights) in registers.iter_mut().zip(weights) {
                        *sums = _mm512_dpbusd_epi32(*sums, inputs, weights);
                    }
                }
            }
            for (registers, sums) in registers.iter().zip(&mut sums) {
                for (at, register) in registers.iter().enumerate() {
                    _mm512_storeu_si512(sums.as_mut_ptr().add(16 * at).cast(), *register);
                }
            }
        }
        sums
    }
}

/// 12 registers of sums are in use, out of 16. Only named in [`with_avx2`].
struct Avx2;

/// Outputs whose sums are computed at once; each has two in a register.
const AT_ONCE: usize = 8;

impl Products for Avx2 {
    #[inline(always)]
    fn sums(start: &[i32; PANEL_OUTPUTS], inputs: &[Inputs], weights: &[Group]) -> Sums {
        let mut sums: Sums = [[0; PANEL_OUTPUTS]; ROWS];
        let inputs: Vec<[i64; ROWS]> = inputs.iter().map(|rows| rows.map(widened)).collect();
        for first in (0..PANEL_OUTPUTS).step_by(AT_ONCE) {
            // SAFETY: the processor has the features of the function into which this is inlined; what is read and written
            // are the weights, sums and starts of eight outputs from `first` on.
            unsafe {
                let mut registers = [[_mm256_setzero_si256(); 2]; ROWS];
                for (inputs, weights) in inputs.iter().zip(weights) {
                    let weights = weights.as_ptr().add(first).cast::<__m128i>();
                    let weights: [__m256i; 2] = std::array::from_fn(|half| {
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(half)))
                    });
                    for (registers, inputs) in registers.iter_mut().zip(inputs) {
                        let inputs = _mm256_set1_epi64x(*inputs);
                        for (sums, weights) in registers.iter_mut().zip(weights) {
                            *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(inputs, weights));
                        }
                    }
                }
                let start = _mm256_loadu_si256(start.as_ptr().add(first).cast());
                for ([lower, upper], sums) in registers.iter().zip(&mut sums) {
                    // Outputs 0, 1, 4, 5, 2, 3, 6, 7.
                    let added = _mm256_hadd_epi32(*lower, *upper);
                    let in_order = _mm256_permute4x64_epi64::<0b11_01_10_00>(added);
                    let sum = _mm256_add_epi32(start, in_order);
                    _mm256_storeu_si256(sums.as_mut_ptr().add(first).cast(), sum);
                }
            }
        }
        sums
    }
}

/// Four bytes as numbers of 16 bits.
#[inline(always)]
fn widened(bytes: [u8; 4]) -> i64 {
    let [a, b, c, d] = bytes.map(i64::from);
    a | b << 16 | c << 32 | d << 48
}
