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

/// The mapping of integers [.., inputs] to floats: (integer − zero point) · the row's scale.
#[derive(Debug, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) range: QuantRange,
    /// f32 [.., 1].
    pub(crate) scales: Value,
}

/// The range of unsigned 8-bit activations. CPUs multiply unsigned activations with signed weights fastest: six times as
/// fast as signed with signed, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuantRange {
    /// The integer that stands for zero.
    pub(crate) zero_point: u8,
    /// The distance from the zero point to the largest integer in use; those farther below it are not in use either.
    pub(crate) qmax: u8,
}

impl QuantRange {
    /// Symmetric about zero.
    pub(crate) const SYMMETRIC: Self = Self {
        zero_point: 128,
        qmax: 127,
    };
    /// For outputs of a GELU, whose minimum is −0.17: nearly all integers are available for positive values.
    pub(crate) const GELU: Self = Self {
        zero_point: 16,
        qmax: 239,
    };
}
