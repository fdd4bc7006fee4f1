//! Command-line flags that the programs share: the engine, the reading of rows, and resuming.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use seeward_models::sample::CarriedKeys;
use seeward_runtime::{Device, InputMode, Options};

use crate::image_folder::ImageFolder;

/// The shared flags, as typed.
#[derive(Debug, Args)]
pub(crate) struct SharedArguments {
    /// Device: cpu, cuda[:N] or tensorrt[:N]
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the engine and of image decoding [default: one per CPU core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// GPU memory limit in bytes for each of the two graphs; CUDA libraries use additional memory [default: no limit]
    #[arg(long, value_name = "BYTES")]
    gpu_memory_limit: Option<u64>,
    /// Base folder of image paths; no path or link may leave it [default: the folder of the input file]
    #[arg(long, value_name = "DIR")]
    image_root: Option<PathBuf>,
    /// Allow absolute paths, `..` and symbolic links to leave the image root
    #[arg(long)]
    allow_outside_root: bool,
    /// Key that is plain data, although its name suggests an image, a video or turns; can be repeated
    #[arg(long, value_name = "KEY")]
    carry: Vec<String>,
    /// Start from scratch instead of resuming an interrupted run
    #[arg(long)]
    no_resume: bool,
}

/// How bundles are loaded, on any device.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) threads: Option<usize>,
    pub(crate) batch_tokens: usize,
    pub(crate) max_image_pixels: u64,
    pub(crate) input_mode: InputMode,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) gpu_memory_limit: Option<u64>,
}

impl SharedArguments {
    /// The device of a program that uses one.
    ///
    /// # Errors
    /// An unknown device.
    pub(crate) fn device(&self) -> Result<Device> {
        Ok(self.device.parse()?)
    }

    /// Devices that share the rows.
    ///
    /// # Errors
    /// An unknown device, or devices of different kinds.
    pub(crate) fn devices(&self) -> Result<Vec<Device>> {
        Ok(Device::list(&self.device)?)
    }

    /// The engine's options, with defaults for those that have no shared flag.
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            threads: self.threads,
            gpu_memory_limit: self.gpu_memory_limit,
            ..EngineOptions::default()
        }
    }

    /// The folder of the images of `input`.
    ///
    /// # Errors
    /// No such folder.
    pub(crate) fn images(&self, input: &Path) -> Result<ImageFolder> {
        ImageFolder::new(self.image_root.clone(), self.allow_outside_root, input)
    }

    /// Keys that are plain data.
    pub(crate) fn carried(&self) -> CarriedKeys {
        self.carry.iter().cloned().collect()
    }

    /// Whether an interrupted run is resumed.
    pub(crate) fn resume(&self) -> bool {
        !self.no_resume
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        let options = Options::default();
        Self {
            threads: options.threads,
            batch_tokens: options.batch_tokens,
            max_image_pixels: options.max_image_pixels,
            input_mode: options.input,
            cache_dir: options.cache_dir,
            gpu_memory_limit: options.gpu_memory_limit,
        }
    }
}

impl EngineOptions {
    /// The runtime's options on `device`.
    pub(crate) fn on(&self, device: Device) -> Options {
        let options = Options::default()
            .device(device)
            .threads(self.threads)
            .batch_tokens(self.batch_tokens)
            .max_image_pixels(self.max_image_pixels)
            .input(self.input_mode)
            .gpu_memory_limit(self.gpu_memory_limit);
        match &self.cache_dir {
            Some(folder) => options.cache_dir(folder),
            None => options,
        }
    }
}
