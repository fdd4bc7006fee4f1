//! Devices, chosen at run time.

use std::fmt;
use std::str::FromStr;

use seeward_models::forest::GPU_ROW_MULTIPLE;

/// Where a model runs. Never replaced by another one: a missing device is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this index, through CUDA.
    Cuda(u32),
    /// The NVIDIA GPU with this index, through TensorRT.
    Tensorrt(u32),
}

impl Device {
    /// The name of ONNX Runtime's execution provider for this device.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda(_) => "CUDAExecutionProvider",
            Self::Tensorrt(_) => "TensorrtExecutionProvider",
        }
    }

    /// Devices that share work, separated by commas: `cuda:0,cuda:1`. All are of one kind: which of them scores a request
    /// depends on timing, so devices that round differently would give other rewards in every run.
    ///
    /// # Errors
    /// An unknown device, or devices of different kinds.
    pub fn list(text: &str) -> Result<Vec<Self>, ParseDeviceError> {
        let devices: Vec<Self> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let is_other = |device: &Self| device.provider() != devices[0].provider();
        match devices.iter().any(is_other) {
            true => Err(ParseDeviceError::Unlike(text.to_owned())),
            false => Ok(devices),
        }
    }

    /// The maximum number of rows of a run. TensorRT allocates memory beforehand for the largest shape of its profile; as many
    /// rows as tokens would make it their square.
    pub(crate) fn most_rows(self) -> usize {
        match self {
            Self::Cpu | Self::Cuda(_) => usize::MAX,
            Self::Tensorrt(_) => 1,
        }
    }

    /// The number of tokens whose multiples are the lengths of rows.
    pub fn row_multiple(self) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Cuda(_) | Self::Tensorrt(_) => GPU_ROW_MULTIPLE,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Tensorrt(index) => write!(f, "tensorrt:{index}"),
        }
    }
}

/// A text that names no device, or no devices that may share work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDeviceError {
    /// No device's name.
    #[error("device: expected cpu, cuda[:N] or tensorrt[:N], got {0}")]
    Unknown(String),
    /// Devices that round differently.
    #[error("device: expected devices of one kind, which round alike, got {0}")]
    Unlike(String),
}

/// `cpu`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N`.
impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        let (name, index) = text.split_once(':').unwrap_or((text, "0"));
        match (name, index.parse()) {
            ("cpu", _) if text == name => Ok(Self::Cpu),
            ("cuda", Ok(index)) => Ok(Self::Cuda(index)),
            ("tensorrt", Ok(index)) => Ok(Self::Tensorrt(index)),
            _ => Err(ParseDeviceError::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
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
    fn devices_of_a_list_are_of_one_kind() {
        let both = [Device::Cuda(0), Device::Cuda(2)];
        assert_eq!(Device::list("cuda,cuda:2").unwrap(), both);
        for text in ["cpu,cuda", "cuda:0,tensorrt:0"] {
            let expected = Err(ParseDeviceError::Unlike(text.to_owned()));
            assert_eq!(Device::list(text), expected);
        }
        for text in ["", "cpu,", "cuda 0"] {
            assert!(Device::list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_no_device_is_refused() {
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
