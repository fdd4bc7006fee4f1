//! The process of a program: its cores, its peak memory and, with the feature `signals`, a graceful stop.

mod cores;
#[cfg(feature = "signals")]
mod stop;

use std::fs;

pub use cores::cores;
#[cfg(feature = "signals")]
pub use stop::{SecondSignal, Signal, Stop};

/// The process's peak resident memory in bytes; `None` if the system does not report it.
pub fn peak_memory() -> Option<u64> {
    bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The process's resident memory in bytes; `None` if the system does not report it.
pub fn resident_memory() -> Option<u64> {
    bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A size in Linux's status file of a process.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t  12 kB\n";
        assert_eq!(bytes(status, "VmHWM:"), Some(12 << 10));
        assert_eq!(bytes(status, "VmRSS:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_covers_memory_in_use() {
        let before = peak_memory();
        let bytes = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_memory() >= Some(bytes.len() as u64) && peak_memory() >= before);
        assert!(
            resident_memory() >= Some(bytes.len() as u64) && resident_memory() <= peak_memory()
        );
    }
}
