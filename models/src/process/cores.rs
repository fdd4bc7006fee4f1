//! The number of threads that are worth starting for computation.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZero;
use std::thread;

/// The physical cores that the process may use: those of its affinity, at most its CPU quota in whole cores, at least 1.
///
/// More threads would wait for each other: two on one core share its arithmetic units, and a quota stops all of them.
pub fn cores() -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    physical().map_or(allowed, |physical| physical.clamp(1, allowed))
}

/// The physical cores of the process's affinity; `None` if the system does not report them.
fn physical() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let core = |cpu| {
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        fs::read_to_string(siblings).ok()
    };
    let cores: Option<BTreeSet<String>> = cpus(list)?.into_iter().map(core).collect();
    Some(cores?.len())
}

/// The numbers of a list such as `0-3,8`.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_have_numbers_and_ranges() {
        assert_eq!(cpus("\t0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(cpus("5"), Some(vec![5]));
        assert_eq!(cpus(""), None);
        assert_eq!(cpus("a-3"), None);
    }

    #[test]
    fn the_process_has_a_core_and_not_more_than_it_may_use() {
        let allowed = thread::available_parallelism().unwrap().get();
        assert!((1..=allowed).contains(&cores()));
    }
}
