//! Operators that the runtime adds to ONNX Runtime's, for bundles in integers and bf16 on a CPU: the kernels of `seeward-kernels` with
//! the engine's tensors and threads.

mod attention;
mod bf16;
mod engine;
mod hidden;
mod layer;
mod linear;
mod quantize;

use std::sync::{Mutex, PoisonError};

use ort::operator::OperatorDomain;
use seeward_models::contract::OPERATORS;

use attention::ForestAttention;
use bf16::{Bf16Hidden, Bf16Linear};
use hidden::Int8Hidden;
use linear::Int8Linear;
use quantize::QuantizeRows;

/// The operators that bundles may use in addition to ONNX's and ONNX Runtime's, for sessions that are not created by
/// [`RewardModel`](crate::RewardModel): `builder.with_operators(operators()?)`. A process must not create another session at
/// the same time as its first one with them: ONNX Runtime checks for their domain and then adds it, without a lock.
///
/// # Errors
/// Those of ONNX Runtime.
pub fn operators() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OPERATORS)?
        .add(ForestAttention)?
        .add(QuantizeRows)?
        .add(Int8Linear)?
        .add(Int8Hidden)?
        .add(Bf16Linear)?
        .add(Bf16Hidden)
}

/// Creates a session with our operators; the process's first one alone.
pub(crate) fn alone_if_first<T>(create: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    static KNOWN: Mutex<bool> = Mutex::new(false);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if *known {
        drop(known);
        return create();
    }
    let created = create();
    *known = created.is_ok();
    created
}
