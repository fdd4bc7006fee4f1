//! The best instructions that the CPU has.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::dot::IntDot;
use crate::CpuFeatures;
use crate::cpu_features::Portable;

/// Work to be compiled for each instruction set. `with` is always inlined, as are the functions that it calls, so that it is
/// compiled for the features of its caller.
pub(crate) trait Work {
    fn with<D: IntDot>(self, dot: D);
}

/// Does the work with the best instructions.
pub(crate) fn dispatch(features: CpuFeatures, work: impl Work) {
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
    use crate::cpu_features::{Avx2, Avx512Vnni};

    /// Does the work if the CPU has instructions for it, and else returns it.
    pub(super) fn try_dispatch<W: Work>(features: CpuFeatures, work: W) -> Option<W> {
        if let Some(token) = features.avx512_vnni {
            // SAFETY: the token proves the features.
            unsafe { with_vnni(token, work) };
        } else if let Some(token) = features.avx2 {
            // SAFETY: the token proves the features.
            unsafe { with_avx2(token, work) };
        } else {
            return Some(work);
        }
        None
    }

    #[target_feature(enable = "avx512bw,avx512vnni")]
    fn with_vnni<W: Work>(token: Avx512Vnni, work: W) {
        work.with(token);
    }

    #[target_feature(enable = "avx2,fma")]
    fn with_avx2<W: Work>(token: Avx2, work: W) {
        work.with(token);
    }
}
