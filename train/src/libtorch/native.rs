//! LibTorch functions that tch does not bind, through `libtorch.cc`. This file and `world/group.rs` have all
//! unsafe code of the crate.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

use seeward_models::{Error, Result};
use tch::Tensor;
use torch_sys::C_tensor;

/// The settings of one AdamW update, common to its tensors.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWStep {
    pub(crate) rate: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    /// Gradients are first divided by it, in place unless it is 1.
    pub(crate) gradient_divisor: f64,
    /// The number of this update of the tensors, from 1.
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

/// An [`Update`] in the layout of `libtorch.cc`.
#[repr(C)]
struct Pointers {
    tensor: *const C_tensor,
    gradient: *const C_tensor,
    first: *const C_tensor,
    second: *const C_tensor,
}

/// Updates tensors and moments by one step of AdamW, in one pass over memory.
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
    // SAFETY: the pointers belong to tensors that `updates` borrows, and `count` is their number. The elements are
    // written as by tch's in-place functions, which take shared references too.
    let problem = unsafe { seeward_fused_adamw(pointers.as_ptr(), pointers.len(), step) };
    if problem.is_null() {
        return Ok(());
    }
    // SAFETY: if not null, it is a C string that stays valid until this thread's next call.
    let problem = unsafe { CStr::from_ptr(problem) };
    Err(Error::invalid(problem.to_string_lossy()))
}

/// Removes the gradient of `tensor`.
pub(crate) fn forget_gradient(tensor: &Tensor) {
    // SAFETY: the pointer belongs to a live tensor; only its gradient handle is written.
    unsafe { seeward_forget_gradient(tensor.as_ptr()) }
}

// SAFETY: the signatures match `libtorch.cc`, where `C_tensor` is LibTorch's tensor. The `safe` functions only read or
// set LibTorch's global context, the heap's settings or OpenMP's threads, and never throw.
unsafe extern "C" {
    #[link_name = "seeward_allow_tf32"]
    pub(crate) safe fn allow_tf32(allow: bool);
    #[link_name = "seeward_tf32_is_allowed"]
    pub(crate) safe fn tf32_is_allowed() -> bool;
    #[link_name = "seeward_use_cudnn_attention"]
    pub(crate) safe fn use_cudnn_attention(on: bool);
    #[cfg(test)]
    #[link_name = "seeward_cudnn_attention_is_used"]
    pub(crate) safe fn cudnn_attention_is_used() -> bool;
    /// Opens a team of OpenMP threads of the calling thread; they end with it. Nothing without GNU's OpenMP.
    #[link_name = "seeward_open_team"]
    pub(crate) safe fn open_team(threads: u32);
    /// Makes the heap return no memory to the system, if the C library is glibc.
    #[link_name = "seeward_keep_freed_memory"]
    pub(crate) safe fn keep_freed_memory();
    /// Bytes of that GPU's memory; -1 if it is missing.
    #[link_name = "seeward_gpu_memory"]
    pub(crate) safe fn gpu_memory(index: i32) -> i64;
    /// Peak bytes of tensors on that GPU; -1 if it is missing.
    #[link_name = "seeward_peak_gpu_memory"]
    pub(crate) safe fn peak_gpu_memory(index: i32) -> i64;
    fn seeward_fused_adamw(
        updates: *const Pointers,
        count: usize,
        step: &AdamWStep,
    ) -> *const c_char;
    fn seeward_forget_gradient(tensor: *const C_tensor);
}
