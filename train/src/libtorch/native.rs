//! What LibTorch can do and tch does not bind, over `libtorch.cc`. The only unsafe code of the crate.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

use seeward_models::{Error, Result};
use tch::Tensor;
use torch_sys::C_tensor;

/// What the tensors of one AdamW update have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWStep {
    pub(crate) rate: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    /// Gradients are divided by it first, in place where it is not 1.
    pub(crate) gradient_divisor: f64,
    /// Which update of these tensors it is, from 1.
    pub(crate) step: i64,
}

/// One tensor of an update, with its gradient and moments: all contiguous fp32 of one shape, on one device.
#[derive(Clone, Copy)]
pub(crate) struct Update<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) gradient: &'a Tensor,
    pub(crate) first: &'a Tensor,
    pub(crate) second: &'a Tensor,
}

/// An [`Update`] as `libtorch.cc` has it.
#[repr(C)]
struct Pointers {
    tensor: *const C_tensor,
    gradient: *const C_tensor,
    first: *const C_tensor,
    second: *const C_tensor,
}

/// Moves the tensors and their moments by one step of AdamW, each element read and written once.
///
/// # Errors
/// LibTorch's.
pub(crate) fn fused_adamw(updates: &[Update], step: &AdamWStep) -> Result<()> {
    let pointers = |update: &Update| Pointers {
        tensor: update.tensor.as_ptr(),
        gradient: update.gradient.as_ptr(),
        first: update.first.as_ptr(),
        second: update.second.as_ptr(),
    };
    let pointers: Vec<Pointers> = updates.iter().map(pointers).collect();
    // SAFETY: the pointers are those of tensors that `updates` borrows, as many as are counted. What the tensors hold is
    // written as tch's in-place functions do it, which take shared references too.
    let problem = unsafe { seeward_fused_adamw(pointers.as_ptr(), pointers.len(), step) };
    if problem.is_null() {
        return Ok(());
    }
    // SAFETY: not null, it is a text that stands until this thread's next call.
    let problem = unsafe { CStr::from_ptr(problem) };
    Err(Error::invalid(problem.to_string_lossy()))
}

/// Leaves `tensor` without a gradient.
pub(crate) fn forget_gradient(tensor: &Tensor) {
    // SAFETY: the pointer is that of a live tensor, of which only the handle of its gradient is written.
    unsafe { seeward_forget_gradient(tensor.as_ptr()) }
}

// SAFETY: the signatures are those of `libtorch.cc`, and `C_tensor` is LibTorch's tensor there. Those that are safe read
// or set LibTorch's global context or the heap's settings and throw nothing.
unsafe extern "C" {
    #[link_name = "seeward_allow_tf32"]
    pub(crate) safe fn allow_tf32(allow: bool);
    #[link_name = "seeward_tf32_is_allowed"]
    pub(crate) safe fn tf32_is_allowed() -> bool;
    /// Makes the C library's heap give nothing back to the system, where it is glibc's.
    #[link_name = "seeward_keep_freed_memory"]
    pub(crate) safe fn keep_freed_memory();
    /// The most bytes that tensors have taken on that GPU at one time; -1 without it.
    #[link_name = "seeward_peak_gpu_memory"]
    pub(crate) safe fn peak_gpu_memory(index: i32) -> i64;
    fn seeward_fused_adamw(
        updates: *const Pointers,
        count: usize,
        step: &AdamWStep,
    ) -> *const c_char;
    fn seeward_forget_gradient(tensor: *const C_tensor);
}
