//! The device that the user names, or a reason why it cannot be used.

use anyhow::{Context, Result, bail};
use seeward_models::forest::GPU_ROW_MULTIPLE;
use tch::{Cuda, Device, Kind, Tensor};

use crate::world::environment::Ranks;

/// The texts with which LibTorch's messages turn from the problem to details.
const DETAILS: [&str; 2] = [". This could be because", "\nException raised from"];

/// `cpu`, `cuda` or `cuda:N`. Of several processes on a machine, each has its own GPU: with `cuda`, the one of its number.
///
/// # Errors
/// Another name, a CUDA device that cannot be used, with LibTorch's reason, or one GPU for several processes. There is no
/// fallback.
pub fn parse(name: &str, local: Ranks) -> Result<Device> {
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        // A launcher may show each process its own GPU only.
        None if name == "cuda" && Cuda::device_count() == 1 => cuda(0),
        None if name == "cuda" => cuda(local.rank),
        Some(("cuda", _)) if local.size > 1 => bail!(
            "--device {name}: {} processes on this machine need a GPU each: --device cuda",
            local.size
        ),
        Some(("cuda", index)) => cuda(
            index
                .parse()
                .with_context(|| format!("--device {name}: expected cuda:N"))?,
        ),
        _ => bail!("--device {name}: expected cpu, cuda or cuda:N"),
    }
}

/// The number of tokens whose multiples are the lengths of padded rows.
pub(crate) fn row_multiple(device: Device) -> usize {
    match device {
        Device::Cpu => 1,
        _ => GPU_ROW_MULTIPLE,
    }
}

/// Tries to allocate a tensor there: shows whether the device can be used, and if not, why.
fn cuda(index: usize) -> Result<Device> {
    let device = Device::Cuda(index);
    match Tensor::f_zeros([1], (Kind::Float, device)) {
        Ok(_) => Ok(device),
        Err(error) => bail!(
            "--device cuda:{index}: LibTorch sees {} CUDA devices: {} (it needs a GPU, its driver and a program built \
             with LibTorch's CUDA libraries: `make setup DEVICE=cuda`)",
            Cuda::device_count(),
            problem(&error.to_string())
        ),
    }
}

fn problem(text: &str) -> &str {
    let ends = DETAILS.iter().filter_map(|details| text.find(details));
    &text[..ends.min().unwrap_or(text.len())]
}
