//! Norms over the last axis, in f32 whatever comes in.

use seeward_models::Result;

use crate::graph::{Node, Value};
use crate::ops::GraphOps;
use crate::proto::DataType;
use crate::weights::Layout;

pub(crate) fn layer(ops: &mut GraphOps, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
    let bias = ops.weight(&format!("{name}.bias"), Layout::Stored)?;
    norm(ops, "LayerNormalization", name, x, Some(&bias), epsilon)
}

pub(crate) fn rms(ops: &mut GraphOps, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
    norm(ops, "RMSNormalization", name, x, None, epsilon)
}

fn norm(
    ops: &mut GraphOps,
    op: &'static str,
    name: &str,
    x: &Value,
    bias: Option<&Value>,
    epsilon: f64,
) -> Result<Value> {
    let wide = ops.cast(name, x, DataType::F32)?;
    let scale = ops.weight(&format!("{name}.weight"), Layout::Stored)?;
    let node = Node::new(op, &[&wide, &scale]).input(bias).axis(-1);
    let normed = ops.node(name, node.float("epsilon", epsilon), DataType::F32)?;
    ops.cast(name, &normed, x.element)
}
