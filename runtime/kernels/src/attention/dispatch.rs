//! The best registers that the CPU has.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::head::{Head, Output, Scratch, attend};
use crate::CpuFeatures;
use crate::cpu_features::Portable;
use crate::lanes::PortableLanes;

/// Computes a head's block of queries.
pub(super) fn run(features: CpuFeatures, head: &Head, scratch: &mut Scratch, into: &mut Output) {
    #[cfg(target_arch = "x86_64")]
    if x86::try_attend_simd(features, head, scratch, into) {
        return;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = features;
    attend::<PortableLanes, 2, 1>(Portable, head, scratch, into);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu_features::{Avx2, Avx512Bf16};
    use crate::lanes::{Avx2Lanes, Avx512Lanes};

    /// Runs the SIMD kernel if the CPU supports one; returns whether it ran.
    pub(super) fn try_attend_simd(
        features: CpuFeatures,
        head: &Head,
        scratch: &mut Scratch,
        into: &mut Output,
    ) -> bool {
        if let Some(token) = features.avx512_bf16 {
            // SAFETY: the token proves the features.
            unsafe { with_avx512(token, head, scratch, into) };
        } else if let Some(token) = features.avx2 {
            // SAFETY: the token proves the features.
            unsafe { with_avx2(token, head, scratch, into) };
        } else {
            return false;
        }
        true
    }

    /// Keeps sums in up to 16 of 32 registers.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn with_avx512(token: Avx512Bf16, head: &Head, scratch: &mut Scratch, into: &mut Output) {
        attend::<Avx512Lanes, 8, 4>(token, head, scratch, into);
    }

    /// Keeps sums in 8 of 16 registers for most of the time.
    #[target_feature(enable = "avx2,fma")]
    fn with_avx2(token: Avx2, head: &Head, scratch: &mut Scratch, into: &mut Output) {
        attend::<Avx2Lanes, 2, 1>(token, head, scratch, into);
    }
}
