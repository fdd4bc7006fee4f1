//! The edges of a graph.

use std::rc::Rc;

use crate::data_type::DataType;

/// A value on an edge of a graph: a name and an element type, without a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub(crate) name: String,
    pub(crate) element: DataType,
    /// Present for integers that stand for floats.
    pub(crate) quantization: Option<Rc<Quantization>>,
}

impl Value {
    pub(crate) fn new(name: impl Into<String>, element: DataType) -> Self {
        Self {
            name: name.into(),
            element,
            quantization: None,
        }
    }
}

/// The scales f32 [.., groups] of integers [.., inputs] that stand for floats.
#[derive(Debug, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) scales: Value,
}

/// The integer that stands for zero among activations. CPUs multiply unsigned activations with signed weights fastest: six
/// times as fast as signed with signed, as measured.
pub(crate) const ZERO_POINT: usize = 128;
