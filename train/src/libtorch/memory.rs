//! Memory: reuse of freed blocks, copies of inputs to the device, peak usage.

use std::env;

use seeward_models::process;
use tch::{Device, Tensor};

use crate::libtorch::native;

/// Makes the C library keep freed CPU memory for later steps. Every step allocates and frees the same gigabytes, and
/// getting them from the system each time takes a tenth of a step. Skipped if MALLOC_MMAP_THRESHOLD_ is set.
pub fn keep_freed() {
    if env::var_os("MALLOC_MMAP_THRESHOLD_").is_none() {
        native::keep_freed_memory();
    }
}

/// Copies a CPU tensor to the device: to a GPU asynchronously from pinned memory, which LibTorch keeps until the copy is
/// done.
pub(crate) fn place(tensor: &Tensor, device: Device) -> Tensor {
    copy(&pinned(tensor, device), device)
}

/// The tensor on the CPU, for a GPU in memory that it can read.
pub(crate) fn pinned(tensor: &Tensor, device: Device) -> Tensor {
    let tensor = tensor.to_device(Device::Cpu);
    match device.is_cuda() {
        true => tensor.internal_pin_memory(device),
        false => tensor,
    }
}

/// The bytes that a [pinned](pinned) tensor takes: LibTorch's allocator of such memory rounds up to powers of two.
pub(crate) fn pinned_bytes(bytes: u64, device: Device) -> u64 {
    match device.is_cuda() {
        true => bytes.next_power_of_two(),
        false => bytes,
    }
}

/// Copies a [pinned](pinned) tensor to the device, to a GPU asynchronously.
pub(crate) fn copy(pinned: &Tensor, device: Device) -> Tensor {
    match device.is_cuda() {
        true => pinned.to_device_(device, pinned.kind(), true, false),
        false => pinned.to_device(device),
    }
}

/// Whether `bytes` more can stay on a GPU, so that its peak leaves a quarter of its memory for larger steps. The CPU has no
/// memory of a device.
pub(crate) fn has_room(device: Device, bytes: u64) -> bool {
    let Device::Cuda(index) = device else {
        return false;
    };
    let total = u64::try_from(native::gpu_memory(index as i32));
    let (Ok(total), Some(peak)) = (total, peak(device)) else {
        return false;
    };
    peak.saturating_add(bytes) <= total / 4 * 3
}

/// Peak memory so far in bytes: of tensors on a GPU, or of the whole process on the CPU. `None` if the system does not
/// report it.
pub fn peak(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => native::peak_gpu_memory(index as i32).try_into().ok(),
        _ => process::peak_memory(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_reports_its_peak() {
        let before = peak(Device::Cpu);
        let values = Tensor::ones([64 << 20], (tch::Kind::Uint8, Device::Cpu));
        assert!(peak(Device::Cpu) >= Some(values.numel() as u64) && peak(Device::Cpu) >= before);
    }

    /// LibTorch for the CPU has no GPU allocator: no value, and no abort.
    #[test]
    fn a_missing_gpu_has_no_peak() {
        if !tch::Cuda::is_available() {
            assert_eq!(peak(Device::Cuda(0)), None);
            assert_eq!(native::gpu_memory(0), -1);
            assert!(!has_room(Device::Cuda(0), 0));
        }
    }
}
