//! The device that the user names, or an honest refusal.

use anyhow::{Context, Result, bail};
use tch::{Cuda, Device};

/// `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// Another name, or a CUDA device that is not there: never a silent fallback.
pub fn parse(name: &str) -> Result<Device> {
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", index)) => cuda(
            index
                .parse()
                .with_context(|| format!("--device {name}: expected cuda:N"))?,
        ),
        _ => bail!("--device {name}: expected cpu, cuda or cuda:N"),
    }
}

fn cuda(index: usize) -> Result<Device> {
    let count = Cuda::device_count();
    if !Cuda::is_available() {
        bail!(
            "--device cuda:{index}: this LibTorch sees no CUDA device (the CPU build has no CUDA support)"
        );
    }
    if index as i64 >= count {
        bail!("--device cuda:{index}: LibTorch sees {count} CUDA devices");
    }
    Ok(Device::Cuda(index))
}
