//! The best instructions that the CPU has.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::product::PairDot;
use crate::CpuFeatures;
use crate::cpu_features::Portable;

/// Work to be compiled for each instruction set. `with` is always inlined, as are the functions that it calls, so that it is
/// compiled for the features of its caller.
pub(super) trait Work {
    fn with<D: PairDot>(self, dot: D);
}

/// Does the work with the best instructions.
pub(super) fn dispatch(features: CpuFeatures, work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    let Some(work) = x86::try_dispatch(features, work) else {
        return;
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = features;
    work.with(Portable);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu_features::{Avx2, Avx512Bf16};

    /// Does the work if the CPU has instructions for it, and else returns it.
    pub(super) fn try_dispatch<W: Work>(features: CpuFeatures, work: W) -> Option<W> {
        if let Some(token) = features.avx512_bf16 {
            // SAFETY: the token proves the features.
            unsafe { with_avx512(token, work) };
        } else if let Some(token) = features.avx2 {
            // SAFETY: the token proves the features.
            unsafe { with_avx2(token, work) };
        } else {
            return Some(work);
        }
        None
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn with_avx512<W: Work>(token: Avx512Bf16, work: W) {
        work.with(token);
    }

    #[target_feature(enable = "avx2,fma")]
    fn with_avx2<W: Work>(token: Avx2, work: W) {
        work.with(token);
    }
}
