//! Collectives of the processes that train together, through `group.cc`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::world::environment::Environment;

/// The time in which the watcher ends the process with the error of another one, of which a failed collective is a
/// consequence.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process group. Another process's error ends this process with exit status 2 and its message on stderr.
pub(crate) struct Group(NonNull<Handle>);

/// The group in `group.cc`.
#[repr(C)]
struct Handle {
    _opaque: [u8; 0],
}

/// The settings of a group, in the layout of `group.cc`.
#[repr(C)]
struct Options {
    host: *const c_char,
    prefix: *const c_char,
    timeout_ms: i64,
    rank: i32,
    size: i32,
    gpu: i32,
    port: u16,
    hosts: bool,
}

impl Group {
    /// Waits until all processes of `environment` have come. Tensors on a GPU use NCCL if `device` is one.
    ///
    /// # Errors
    /// The store cannot be reached, a process does not come within `timeout`, or the program is built without NCCL.
    pub(crate) fn open(
        environment: &Environment,
        timeout: Duration,
        device: Device,
    ) -> Result<Self> {
        let (host, port) = &environment.store;
        let place = || format!("MASTER_ADDR={host} MASTER_PORT={port}");
        let address = CString::new(host.as_str()).with_context(place)?;
        // A launcher's store has the keys of earlier attempts.
        let prefix = CString::new(format!("seeward/{}", environment.attempt))?;
        let options = Options {
            host: address.as_ptr(),
            prefix: prefix.as_ptr(),
            timeout_ms: timeout.as_millis() as i64,
            rank: environment.ranks.rank as i32,
            size: environment.ranks.size as i32,
            gpu: match device {
                Device::Cuda(index) => index as i32,
                _ => -1,
            },
            port: *port,
            hosts: environment.hosts_store,
        };
        let mut opened = ptr::null_mut();
        // SAFETY: the texts live until the call returns, which copies them; `opened` is written on success.
        let problem = unsafe { message(seeward_group_open(&options, &mut opened)) };
        match (problem, NonNull::new(opened)) {
            (None, Some(handle)) => Ok(Self(handle)),
            (problem, _) => Err(anyhow!(problem.unwrap_or_default())).with_context(place),
        }
    }

    /// Sums `input` over all processes; `output` becomes this process's part of the sum, in the order of ranks.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn reduce_scatter(&self, output: &Tensor, input: &Tensor) -> Result<()> {
        // SAFETY: the group is open, and the tensors are borrowed; the elements of `output` are written as by tch's
        // in-place functions, which take shared references too.
        heard(unsafe {
            message(seeward_group_reduce_scatter(
                self.0.as_ptr(),
                output.as_ptr(),
                input.as_ptr(),
            ))
        })
    }

    /// Concatenates the `input` of all processes, of one size, into `output`, in the order of ranks.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn all_gather(&self, output: &Tensor, input: &Tensor) -> Result<()> {
        // SAFETY: as for `reduce_scatter`.
        heard(unsafe {
            message(seeward_group_all_gather(
                self.0.as_ptr(),
                output.as_ptr(),
                input.as_ptr(),
            ))
        })
    }

    /// Ends all other processes with this error, unless one has failed before. Returns once they had time to read it.
    pub(crate) fn fail(&self, why: &str) {
        // A text has no zero byte after this.
        let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the group is open, and the text lives until the call returns.
        unsafe { seeward_group_fail(self.0.as_ptr(), why.as_ptr()) }
    }

    /// Waits for all processes and leaves.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn close(self) -> Result<()> {
        // SAFETY: the group is open; it is not used again.
        heard(unsafe { message(seeward_group_close(self.0.as_ptr())) })
    }
}

/// The message at `problem`, if there is one.
///
/// # Safety
/// If not null, `problem` is a C string that is valid now.
unsafe fn message(problem: *const c_char) -> Option<String> {
    // SAFETY: as above.
    let text = (!problem.is_null()).then(|| unsafe { CStr::from_ptr(problem) });
    text.map(|text| text.to_string_lossy().into_owned())
}

/// The error of a collective, unless that of another process comes first.
fn heard(problem: Option<String>) -> Result<()> {
    let Some(problem) = problem else {
        return Ok(());
    };
    thread::sleep(PATIENCE);
    // Gloo ends its messages with advice for its developers.
    let advice = [". This is typically", "This may indicate"];
    let ends = advice.iter().filter_map(|advice| problem.find(advice));
    let problem = &problem[..ends.min().unwrap_or(problem.len())];
    Err(anyhow!(
        "another process has ended or does not answer: {}",
        problem.trim_end()
    ))
}

// SAFETY: the signatures match `group.cc`, where `C_tensor` is LibTorch's tensor. A returned string is valid until the
// thread's next call.
unsafe extern "C" {
    fn seeward_group_open(options: &Options, opened: &mut *mut Handle) -> *const c_char;
    fn seeward_group_reduce_scatter(
        group: *mut Handle,
        output: *const C_tensor,
        input: *const C_tensor,
    ) -> *const c_char;
    fn seeward_group_all_gather(
        group: *mut Handle,
        output: *const C_tensor,
        input: *const C_tensor,
    ) -> *const c_char;
    fn seeward_group_fail(group: *mut Handle, why: *const c_char);
    fn seeward_group_close(group: *mut Handle) -> *const c_char;
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::world::environment::Ranks;
    use crate::world::launcher::free_port;

    /// Opens a group of one process, runs every collective, and leaves.
    fn run_alone(device: Device) {
        let environment = Environment {
            ranks: Ranks { rank: 0, size: 1 },
            local: Ranks { rank: 0, size: 1 },
            store: ("127.0.0.1".to_owned(), free_port().unwrap()),
            hosts_store: true,
            attempt: 0,
        };
        let group = Group::open(&environment, Duration::from_secs(60), device).unwrap();
        let input = Tensor::arange(6, (Kind::Float, device));
        let outputs = [(); 2].map(|()| input.zeros_like());
        group.reduce_scatter(&outputs[0], &input).unwrap();
        group.all_gather(&outputs[1], &input).unwrap();
        assert_eq!(outputs.map(|output| output == input), [true; 2]);
        group.close().unwrap();
    }

    #[test]
    fn collectives_of_one_process_change_nothing() {
        run_alone(Device::Cpu);
    }

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn collectives_of_one_process_change_nothing_through_nccl() {
        run_alone(Device::Cuda(0));
    }
}
