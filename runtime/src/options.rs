//! Options of loading a model.

use std::path::PathBuf;

use seeward_models::bundle::Manifest;
use seeward_models::image::DEFAULT_MAX_PIXELS;
use seeward_models::kinds::{InputMode, Precision, Target};
use seeward_models::process;

use crate::{Device, Error, Result, Scale};

/// Tokens of one run of the reward graph unless [`Options::batch_tokens`] says otherwise. Attention over a row is dense,
/// so memory grows with the square of a row's tokens.
pub const DEFAULT_BATCH_TOKENS: usize = 6144;

/// Options of loading a model. The default is the CPU with the bundle's own input mode.
///
/// ```
/// use seeward_runtime::{Device, Options};
///
/// let options = Options::default().device(Device::Cuda(0)).threads(4);
/// assert_eq!(options.threads, Some(4));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the model runs.
    pub device: Device,
    /// Threads of the engine, and as many of image decoding; [`cores`](seeward_models::process::cores) when `None`.
    pub threads: Option<usize>,
    /// The maximum number of tokens of one run, padding included. A single conversation that is longer makes a longer run.
    pub batch_tokens: usize,
    /// The maximum number of pixels of an image.
    pub max_image_pixels: u64,
    /// Hides a part of each request from the model, in addition to the bundle's own mode; [`InputMode::Full`] hides nothing.
    pub input: InputMode,
    /// The scale of rewards.
    pub scale: Scale,
    /// ONNX Runtime's library. A process loads one, the first.
    pub library: Option<PathBuf>,
    /// The folder where TensorRT caches the engines that it builds, in a folder for each bundle.
    pub cache_dir: Option<PathBuf>,
    /// Limit in bytes of GPU memory for the weights and activations of each of the two graphs, and of TensorRT's workspace.
    /// CUDA's libraries and TensorRT's weights use additional memory. No limit when `None`.
    pub gpu_memory_limit: Option<u64>,
    /// Memory in bytes for the embeddings of images, by their content, so that an image that comes again is neither decoded
    /// nor encoded again. The rewards are the same bits. 0 keeps none.
    pub image_cache_bytes: u64,
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
            image_cache_bytes: 0,
        }
    }
}

/// One setter for each field.
impl Options {
    /// Sets [`device`](Self#structfield.device).
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets [`threads`](Self#structfield.threads).
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Sets [`batch_tokens`](Self#structfield.batch_tokens).
    #[must_use]
    pub fn batch_tokens(mut self, tokens: usize) -> Self {
        self.batch_tokens = tokens;
        self
    }

    /// Sets [`max_image_pixels`](Self#structfield.max_image_pixels).
    #[must_use]
    pub fn max_image_pixels(mut self, pixels: u64) -> Self {
        self.max_image_pixels = pixels;
        self
    }

    /// Sets [`input`](Self#structfield.input).
    #[must_use]
    pub fn input(mut self, mode: InputMode) -> Self {
        self.input = mode;
        self
    }

    /// Sets [`scale`](Self#structfield.scale).
    #[must_use]
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// Sets [`library`](Self#structfield.library).
    #[must_use]
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Sets [`cache_dir`](Self#structfield.cache_dir).
    #[must_use]
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(folder.into());
        self
    }

    /// Sets [`gpu_memory_limit`](Self#structfield.gpu_memory_limit).
    #[must_use]
    pub fn gpu_memory_limit(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.gpu_memory_limit = bytes.into();
        self
    }

    /// Sets [`image_cache_bytes`](Self#structfield.image_cache_bytes).
    #[must_use]
    pub fn image_cache_bytes(mut self, bytes: u64) -> Self {
        self.image_cache_bytes = bytes;
        self
    }
}

impl Options {
    /// The number of threads of the engine, and of image decoding.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(process::cores)
    }

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

    /// Refuses a bundle made for another device, or in a precision that the device has no kernels for.
    pub(crate) fn check_device(&self, manifest: &Manifest) -> Result<()> {
        let target = match self.device {
            Device::Cpu => Target::Cpu,
            Device::Cuda(_) => Target::Cuda,
            Device::Tensorrt(_) => Target::Tensorrt,
        };
        if ![target, Target::Portable].contains(&manifest.target) {
            let problem = format!(
                "the bundle is made for {:?} (export it with --target portable, which runs everywhere)",
                manifest.target
            );
            return Err(self.refused(problem.to_lowercase()));
        }
        if (target, manifest.target, manifest.precision)
            == (Target::Cpu, Target::Portable, Precision::Bf16)
        {
            let problem = "the bundle is portable bf16, for which ONNX Runtime's CPU provider has no MatMul \
                           (export it with --target cpu --dtype bf16, or run it on a GPU)";
            return Err(self.refused(problem.to_owned()));
        }
        Ok(())
    }

    fn refused(&self, problem: String) -> Error {
        Error::Device {
            device: self.device,
            problem,
        }
    }

    /// The parts of a request that both the bundle and these options show to the model.
    pub(crate) fn input_mode(&self, bundle: InputMode) -> Result<InputMode> {
        match (bundle, self.input) {
            (mode, InputMode::Full) | (InputMode::Full, mode) => Ok(mode),
            (mode, asked) if mode == asked => Ok(mode),
            (bundle, asked) => Err(Error::InputMode { bundle, asked }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use InputMode::{Full, ImageOnly, TextOnly};

    #[track_caller]
    fn assert_refused(options: Options, start: &str) {
        let message = options.validate().unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }

    #[test]
    fn the_bundles_input_mode_is_obeyed() {
        let mode = |bundle, input| Options::default().input(input).input_mode(bundle);
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
        assert_refused(Options::default().threads(0), "threads");
        assert_refused(Options::default().batch_tokens(0), "batch_tokens");
        assert!(Options::default().validate().is_ok());
    }

    #[test]
    fn a_limit_of_gpu_memory_needs_a_gpu() {
        let limit = |device, bytes: u64| Options::default().device(device).gpu_memory_limit(bytes);
        assert!(limit(Device::Cuda(0), 1 << 30).validate().is_ok());
        assert!(limit(Device::Tensorrt(0), 1 << 30).validate().is_ok());
        for (device, bytes) in [(Device::Cpu, 1 << 30), (Device::Cuda(0), 0)] {
            assert_refused(limit(device, bytes), "gpu_memory_limit: expected");
        }
    }
}
