//! How a model is loaded.

use std::path::PathBuf;

use seeward_models::image::DEFAULT_MAX_PIXELS;
use seeward_models::kinds::InputMode;

use crate::{Device, Error, Result, Scale};

/// Tokens of one run of the reward graph unless [`Options::batch_tokens`] says otherwise. Attention over a row is dense,
/// so memory grows with the square of a row's tokens.
pub const DEFAULT_BATCH_TOKENS: usize = 6144;

/// How a model is loaded. `Options::default()` is the processor with the bundle's own input mode.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// Threads of the engine and of picture decoding; as many as the machine has cores when `None`.
    pub threads: Option<usize>,
    /// Most tokens of one run, padding included. Only a conversation that is longer on its own makes a longer run.
    pub batch_tokens: usize,
    /// Most pixels of a picture.
    pub max_image_pixels: u64,
    /// Shows the model only a part of each request, on top of what the bundle says; [`InputMode::Full`] adds nothing.
    pub input: InputMode,
    /// On which scale rewards come out.
    pub scale: Scale,
    /// ONNX Runtime's library. A process loads one, the first.
    pub library: Option<PathBuf>,
    /// Where TensorRT keeps the engines that it builds, each bundle's in a folder of its own.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes of GPU memory that each of the two graphs may take for its weights and what runs pass on, and TensorRT for
    /// its workspace. What CUDA's libraries and TensorRT's weights take comes on top. No limit when `None`.
    pub gpu_memory_limit: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            threads: None,
            batch_tokens: DEFAULT_BATCH_TOKENS,
            max_image_pixels: DEFAULT_MAX_PIXELS,
            input: InputMode::Full,
            scale: Scale::Raw,
            library: None,
            cache_dir: None,
            gpu_memory_limit: None,
        }
    }
}

impl Options {
    pub(crate) fn validate(&self) -> Result<()> {
        let zero = |name: &str| Error::Options(format!("{name}: expected at least 1, got 0"));
        if self.threads == Some(0) {
            return Err(zero("threads"));
        }
        if self.batch_tokens == 0 {
            return Err(zero("batch_tokens"));
        }
        match (self.gpu_memory_limit, self.device) {
            (Some(0), _) => return Err(zero("gpu_memory_limit")),
            (Some(_), Device::Cpu) => {
                let problem = "gpu_memory_limit: expected a GPU as the device, got cpu";
                return Err(Error::Options(problem.to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the model sees of a request: what both the bundle and these options let through.
    pub(crate) fn input_mode(&self, bundle: InputMode) -> Result<InputMode> {
        match (bundle, self.input) {
            (mode, InputMode::Full) | (InputMode::Full, mode) => Ok(mode),
            (mode, asked) if mode == asked => Ok(mode),
            (bundle, asked) => Err(Error::InputMode { bundle, asked }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use InputMode::{Full, ImageOnly, TextOnly};

    #[test]
    fn the_bundles_input_mode_is_obeyed() {
        let mode = |bundle, input| {
            let options = Options {
                input,
                ..Options::default()
            };
            options.input_mode(bundle)
        };
        for (bundle, asked, seen) in [
            (Full, Full, Full),
            (Full, TextOnly, TextOnly),
            (ImageOnly, Full, ImageOnly),
            (TextOnly, TextOnly, TextOnly),
        ] {
            assert_eq!(mode(bundle, asked).unwrap(), seen);
        }
        let message = mode(TextOnly, ImageOnly).unwrap_err().to_string();
        assert_eq!(
            message,
            "the bundle's model is text-only, which excludes image-only"
        );
    }

    #[test]
    fn zeros_are_refused_by_name() {
        let options = Options {
            threads: Some(0),
            ..Options::default()
        };
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("threads")
        );
        let options = Options {
            batch_tokens: 0,
            ..Options::default()
        };
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("batch_tokens")
        );
        assert!(Options::default().validate().is_ok());
    }

    #[test]
    fn a_limit_of_gpu_memory_needs_a_gpu() {
        let limit = |device, bytes| Options {
            device,
            gpu_memory_limit: Some(bytes),
            ..Options::default()
        };
        assert!(limit(Device::Cuda(0), 1 << 30).validate().is_ok());
        assert!(limit(Device::Tensorrt(0), 1 << 30).validate().is_ok());
        for (device, bytes) in [(Device::Cpu, 1 << 30), (Device::Cuda(0), 0)] {
            let message = limit(device, bytes).validate().unwrap_err().to_string();
            assert!(
                message.starts_with("gpu_memory_limit: expected"),
                "{message}"
            );
        }
    }
}
