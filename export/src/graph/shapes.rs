//! Nodes that change shapes. Sizes stay free: a reshape copies the leading axes (0) and infers the last one (-1).

use seeward_models::Result;

use super::builder::GraphBuilder;
use super::node::Node;
use super::value::Value;
use crate::data_type::DataType;

impl GraphBuilder {
    /// A dimension of 0 keeps an axis of `x`, -1 is inferred.
    pub(crate) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Result<Value> {
        let shape = self.i64s(shape);
        self.node("", Node::new("Reshape", &[x, &shape]), x.element)
    }

    /// A new axis of size 1 at `axis`.
    pub(crate) fn unsqueeze(&mut self, x: &Value, axis: i64) -> Result<Value> {
        let axis = self.i64s(&[axis]);
        self.node("", Node::new("Unsqueeze", &[x, &axis]), x.element)
    }

    /// The sum over `axis`, which disappears.
    pub(crate) fn sum(&mut self, at: &str, x: &Value, axis: i64) -> Result<Value> {
        let axis = self.i64s(&[axis]);
        let node = Node::new("ReduceSum", &[x, &axis]).int("keepdims", 0);
        self.node(at, node, x.element)
    }

    pub(crate) fn transpose(&mut self, x: &Value, order: &[usize]) -> Result<Value> {
        let node = Node::new("Transpose", &[x]).ints("perm", order);
        self.node("", node, x.element)
    }

    /// The elements of `x` in the shape of `other`.
    pub(crate) fn shaped_like(&mut self, x: &Value, other: &Value) -> Result<Value> {
        let shape = self.node("", Node::new("Shape", &[other]), DataType::I64)?;
        self.node("", Node::new("Reshape", &[x, &shape]), x.element)
    }

    /// [.., width] → [rows, width].
    pub(crate) fn rows(&mut self, x: &Value) -> Result<Value> {
        self.node("", Node::new("Flatten", &[x]).axis(-1), x.element)
    }
}
