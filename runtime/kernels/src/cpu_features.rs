//! Which vector instructions the CPU has, detected once. Each set is a token: a value of its type proves that the
//! instructions exist.

use std::fmt;
use std::sync::OnceLock;

/// Proves nothing, for code that runs on every CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512Bf16, Avx512Vnni};

/// The vector instructions that kernels may use. The default uses none beyond those of every CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuFeatures {
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx2: Option<Avx2>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx512_bf16: Option<Avx512Bf16>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx512_vnni: Option<Avx512Vnni>,
}

impl CpuFeatures {
    /// Those of this CPU, detected at the first call.
    pub fn get() -> Self {
        static DETECTED: OnceLock<CpuFeatures> = OnceLock::new();
        *DETECTED.get_or_init(Self::detect)
    }

    /// The same without AVX-512, so that tests and benchmarks reach the kernels of other CPUs.
    pub fn without_avx512(self) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: self.avx2,
            ..Self::default()
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        Self {
            avx2: Avx2::detect(),
            avx512_bf16: Avx512Bf16::detect(),
            avx512_vnni: Avx512Vnni::detect(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::default()
    }
}

/// The names of the instructions, as in `avx2 avx512_vnni`; `portable` without any.
impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(target_arch = "x86_64")]
        let names = [
            self.avx2.map(|_| "avx2"),
            self.avx512_bf16.map(|_| "avx512_bf16"),
            self.avx512_vnni.map(|_| "avx512_vnni"),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let names: [Option<&str>; 0] = [];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        match names.is_empty() {
            true => f.write_str("portable"),
            false => f.write_str(&names.join(" ")),
        }
    }
}

/// The tokens of x86-64. Their fields are private to this module, so that nothing else can create one.
#[cfg(target_arch = "x86_64")]
mod x86 {
    /// Proves AVX2 and FMA.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx2(());

    /// Proves AVX-512 F and BF16: dot products of bf16 pairs.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512Bf16(());

    /// Proves AVX-512 F, BW and VNNI: dot products of four bytes.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512Vnni(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            let exists = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            exists.then_some(Self(()))
        }
    }

    impl Avx512Bf16 {
        pub(super) fn detect() -> Option<Self> {
            let exists =
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
            exists.then_some(Self(()))
        }
    }

    impl Avx512Vnni {
        pub(super) fn detect() -> Option<Self> {
            let exists =
                is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
            exists.then_some(Self(()))
        }
    }
}
