//! Norms over the last axis, computed in f32 for every element type of the input.

use seeward_models::Result;

use super::WIDE;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;

struct Norm {
    op: &'static str,
    bias: Option<Value>,
    epsilon: f64,
}

pub(crate) fn layer(
    builder: &mut GraphBuilder,
    name: &str,
    x: &Value,
    epsilon: f64,
) -> Result<Value> {
    let norm = Norm {
        op: "LayerNormalization",
        bias: Some(builder.weight(&format!("{name}.bias"), WIDE)?),
        epsilon,
    };
    norm.apply(builder, name, x)
}

pub(crate) fn rms(
    builder: &mut GraphBuilder,
    name: &str,
    x: &Value,
    epsilon: f64,
) -> Result<Value> {
    let norm = Norm {
        op: "RMSNormalization",
        bias: None,
        epsilon,
    };
    norm.apply(builder, name, x)
}

impl Norm {
    fn apply(&self, builder: &mut GraphBuilder, name: &str, x: &Value) -> Result<Value> {
        let x = builder.cast(name, x, WIDE)?;
        let scale = builder.weight(&format!("{name}.weight"), WIDE)?;
        let node = Node::new(self.op, &[&x, &scale]).input(self.bias.as_ref());
        let node = node.axis(-1).float("epsilon", self.epsilon);
        builder.node(name, node, WIDE)
    }
}
