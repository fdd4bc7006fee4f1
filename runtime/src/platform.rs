//! What decides the last digits of rewards besides bundle, options and requests.

use seeward_models::hash::file_hash;

use crate::{Result, RewardModel, library};

/// Machines of equal platforms compute the same bits on the CPU; others may differ in the last digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Platform {
    /// Version of this library.
    pub runtime: &'static str,
    /// sha256 of ONNX Runtime's library.
    pub engine: String,
    /// The vector instructions of the CPU by which engine and kernels choose their code, as in `avx2 fma`.
    pub cpu: String,
}

impl RewardModel {
    /// The platform of this process.
    ///
    /// # Errors
    /// ONNX Runtime's library cannot be read any more.
    pub fn platform(&self) -> Result<Platform> {
        let engine = file_hash(&library::loaded()?);
        Ok(Platform {
            runtime: env!("CARGO_PKG_VERSION"),
            engine: engine.map_err(|e| crate::Error::Library(e.to_string()))?,
            cpu: instructions().join(" "),
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt),+) => {
            [$(($name, is_x86_feature_detected!($name))),+]
        };
    }
    let all = detected![
        "avx",
        "avx2",
        "fma",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16"
    ];
    let present = all.into_iter().filter(|(_, is_present)| *is_present);
    present.map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Vec<&'static str> {
    vec![std::env::consts::ARCH]
}
