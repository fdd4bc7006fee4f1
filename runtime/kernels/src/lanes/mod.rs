//! Registers of [`LANES`] f32 values.

mod portable;
mod register;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use portable::PortableLanes;
pub(crate) use register::{LANES, Lanes};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2Lanes, Avx512Lanes};
