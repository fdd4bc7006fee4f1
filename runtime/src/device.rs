//! Where a model runs, chosen at run time.

use std::fmt;
use std::str::FromStr;

use seeward_models::bundle::Manifest;
use seeward_models::kinds::{Precision, Target};

use crate::{Error, Result};

/// Where a model runs. Never replaced by another one: a device that is not there is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, through CUDA.
    Cuda(u32),
    /// The NVIDIA GPU of this number, through TensorRT.
    Tensorrt(u32),
}

impl Device {
    /// ONNX Runtime's name for what runs the model there.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda(_) => "CUDAExecutionProvider",
            Self::Tensorrt(_) => "TensorrtExecutionProvider",
        }
    }

    /// Most rows of a run. TensorRT takes memory beforehand for the most rows of the most tokens that it is told of; as many
    /// rows as there are tokens would be their square.
    pub(crate) fn most_rows(self) -> usize {
        match self {
            Self::Cpu | Self::Cuda(_) => usize::MAX,
            Self::Tensorrt(_) => 1,
        }
    }

    /// Refuses a bundle made for another device, or in a precision that this one has no kernels for.
    pub(crate) fn check(self, manifest: &Manifest) -> Result<()> {
        let target = match self {
            Self::Cpu => Target::Cpu,
            Self::Cuda(_) => Target::Cuda,
            Self::Tensorrt(_) => Target::Tensorrt,
        };
        if ![target, Target::Portable].contains(&manifest.target) {
            let problem = format!(
                "the bundle is made for {:?} (export it with --target portable, which runs everywhere)",
                manifest.target
            );
            return Err(self.refuses(problem.to_lowercase()));
        }
        if self == Self::Cpu && manifest.precision == Precision::Bf16 {
            let problem = "the bundle is bf16, for which ONNX Runtime's CPU provider has no MatMul \
                           (export it with --dtype fp32, or fp16, or run it on a GPU)";
            return Err(self.refuses(problem.to_owned()));
        }
        Ok(())
    }

    fn refuses(self, problem: String) -> Error {
        Error::Device {
            device: self,
            problem,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Tensorrt(number) => write!(f, "tensorrt:{number}"),
        }
    }
}

/// `cpu`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N`.
impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        match (name, number.parse()) {
            ("cpu", _) if text == name => Ok(Self::Cpu),
            ("cuda", Ok(number)) => Ok(Self::Cuda(number)),
            ("tensorrt", Ok(number)) => Ok(Self::Tensorrt(number)),
            _ => Err(Error::Options(format!(
                "device: expected cpu, cuda[:N] or tensorrt[:N], got {text}"
            ))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["cpu", "cuda:0", "cuda:3", "tensorrt:1"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        assert_eq!("tensorrt".parse::<Device>().unwrap(), Device::Tensorrt(0));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "",
            "gpu",
            "cpu:0",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "CPU",
            "cuda:0,cuda:1",
        ] {
            let message = text.parse::<Device>().unwrap_err().to_string();
            assert!(message.contains("expected cpu, cuda[:N]"), "{message}");
        }
    }
}
