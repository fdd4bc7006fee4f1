//! Operators with their inputs and attributes, before they are part of a graph.

use seeward_models::contract::OPERATORS;

use super::proto::{self, Attribute};
use super::value::Value;

/// The domain of ONNX's standard operators.
pub(super) const STANDARD: &str = "";
/// The domain of ONNX Runtime's additional operators.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// A node without a name and outputs.
pub(crate) struct Node(pub(super) proto::Node);

impl Node {
    /// A standard operator.
    pub(crate) fn new(op: &str, inputs: &[&Value]) -> Self {
        Self::of_domain(STANDARD, op, inputs)
    }

    /// An operator of ONNX Runtime.
    pub(crate) fn microsoft(op: &str, inputs: &[&Value]) -> Self {
        Self::of_domain(MICROSOFT, op, inputs)
    }

    /// An operator of Seeward's runtime.
    pub(crate) fn seeward(op: &str, inputs: &[&Value]) -> Self {
        Self::of_domain(OPERATORS, op, inputs)
    }

    fn of_domain(domain: &str, op: &str, inputs: &[&Value]) -> Self {
        Self(proto::Node {
            inputs: inputs.iter().map(|input| input.name.clone()).collect(),
            op_type: Some(op.to_owned()),
            domain: Some(domain.to_owned()),
            ..proto::Node::default()
        })
    }

    /// Appends an input, if present.
    pub(crate) fn input(mut self, value: Option<&Value>) -> Self {
        self.0.inputs.extend(value.map(|value| value.name.clone()));
        self
    }

    /// Omits the next `count` inputs, which are optional: their names are empty.
    pub(crate) fn omit(mut self, count: usize) -> Self {
        let absent = std::iter::repeat_n(String::new(), count);
        self.0.inputs.extend(absent);
        self
    }

    pub(crate) fn int(self, name: &str, value: usize) -> Self {
        self.with(Attribute::int(name, value as i64))
    }

    pub(crate) fn axis(self, axis: i64) -> Self {
        self.with(Attribute::int("axis", axis))
    }

    pub(crate) fn float(self, name: &str, value: f64) -> Self {
        self.with(Attribute::float(name, value as f32))
    }

    pub(crate) fn ints(self, name: &str, values: &[usize]) -> Self {
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        self.with(Attribute::ints(name, &values))
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.with(Attribute::text(name, value))
    }

    fn with(mut self, attribute: Attribute) -> Self {
        self.0.attributes.push(attribute);
        self
    }
}
