//! Operators that the runtime adds to ONNX Runtime's, for bundles in integers on a processor.

mod activations;
mod attention;
mod integers;
mod linear;
mod rows;

use std::sync::{Mutex, PoisonError};

use ort::operator::OperatorDomain;
use ort::value::{DynValue, PrimitiveTensorElementType};
use seeward_models::contract::OPERATORS;

use attention::ForestAttention;
use linear::{Int8Hidden, Int8Linear};
use rows::QuantizeRows;

/// The operators that bundles may use beyond ONNX's and ONNX Runtime's own, for sessions that are not made by
/// [`RewardModel`](crate::RewardModel): `builder.with_operators(operators()?)`. A process's first session with them must not
/// be made beside another: ONNX Runtime looks whether it knows their domain, and then adds it, without a lock.
///
/// # Errors
/// What ONNX Runtime says.
pub fn operators() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OPERATORS)?
        .add(ForestAttention)?
        .add(QuantizeRows)?
        .add(Int8Linear)?
        .add(Int8Hidden)
}

/// Makes a session with our operators: the process's first one alone.
pub(crate) fn alone_if_first<T>(make: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    static KNOWN: Mutex<bool> = Mutex::new(false);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if *known {
        drop(known);
        return make();
    }
    let made = make();
    *known = made.is_ok();
    made
}

/// An input's shape and elements.
type Input<'a, T> = (Vec<i64>, &'a [T]);

fn extract<T: PrimitiveTensorElementType>(value: &DynValue) -> ort::Result<Input<'_, T>> {
    let (shape, elements) = value.try_extract_tensor::<T>()?;
    Ok((shape.to_vec(), elements))
}

fn wrong(operator: &str, problem: &str) -> ort::Error {
    ort::Error::new(format!("{operator}: {problem}"))
}
