//! Memory: what becomes of freed blocks, how inputs get to the device, and how much was needed.

use std::{env, fs};

use tch::{Device, Tensor};

use crate::libtorch::native;

/// Keeps freed memory of the processor's for the steps to come, from now on. Every step takes and frees the same gigabytes,
/// and getting them from the system each time anew takes a tenth of a step. Who sets MALLOC_MMAP_THRESHOLD_ has decided
/// otherwise.
pub fn keep_freed() {
    if env::var_os("MALLOC_MMAP_THRESHOLD_").is_none() {
        native::keep_freed_memory();
    }
}

/// Puts a tensor of the processor's on the device. Towards a GPU it goes by pinned memory, from which the driver copies
/// while the program goes on; LibTorch keeps that memory until the copy is done.
pub(crate) fn place(tensor: &Tensor, device: Device) -> Tensor {
    if device.is_cuda() {
        let pinned = tensor.internal_pin_memory(device);
        pinned.to_device_(device, tensor.kind(), true, false)
    } else {
        tensor.to_device(device)
    }
}

/// The most bytes taken at one time until now: by tensors on a GPU, or by the whole process. `None` where the system
/// does not say.
pub fn peak(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => native::peak_gpu_memory(index as i32).try_into().ok(),
        _ => of_process(&fs::read_to_string("/proc/self/status").ok()?),
    }
}

/// The high-water mark of resident memory in Linux's status of a process.
fn of_process(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let kilobytes = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = kilobytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_peak() {
        assert_eq!(
            of_process("VmPeak:\t 9 kB\nVmHWM:\t  12 kB\n"),
            Some(12 << 10)
        );
        assert_eq!(of_process("VmPeak:\t 9 kB\n"), None);
        let before = peak(Device::Cpu);
        let values = Tensor::ones([64 << 20], (tch::Kind::Uint8, Device::Cpu));
        assert!(peak(Device::Cpu) >= Some(values.numel() as u64) && peak(Device::Cpu) >= before);
    }

    /// LibTorch for the CPU has no allocator for GPUs: no number, and no end of the program.
    #[test]
    fn a_gpu_that_is_not_there_has_no_peak() {
        if !tch::Cuda::is_available() {
            assert_eq!(peak(Device::Cuda(0)), None);
        }
    }
}
