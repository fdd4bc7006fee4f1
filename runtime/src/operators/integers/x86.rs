//! Sums by the instructions of AVX-512 that add four products of bytes at once (VNNI), and the portable ones compiled for
//! AVX2. Such instructions are unsafe to name where the features are not known to be there, which is why this file may.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use seeward_models::bundle::PANEL_OUTPUTS;

use super::{Group, Inputs, Portable, Products, ROWS, Sums, Work};

/// Registers of a panel's sums of one row.
const REGISTERS: usize = PANEL_OUTPUTS / 16;

/// Does the work if the processor has what it takes, and else gives it back.
pub(super) fn left<W: Work>(work: W) -> Option<W> {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has these features.
        unsafe { with_vnni(work) };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has these features.
        unsafe { with_avx2(work) };
    } else {
        return Some(work);
    }
    None
}

#[target_feature(enable = "avx512bw,avx512vnni")]
fn with_vnni<W: Work>(work: W) {
    work.with::<Vnni>();
}

#[target_feature(enable = "avx2,fma")]
fn with_avx2<W: Work>(work: W) {
    work.with::<Portable>();
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
