//! Rotary positions. The tables are inputs, so no length is part of the graph.

use seeward_models::Result;

use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;

/// Rows of cos and sin [entries, head/2] at positions [rows, tokens] → [rows, tokens, head/2] each.
pub(crate) fn table(
    builder: &mut GraphBuilder,
    cos: &Value,
    sin: &Value,
    positions: &Value,
) -> Result<(Value, Value)> {
    let mut at_positions = |table: &Value| {
        let node = Node::new("Gather", &[table, positions]);
        builder.node("", node, table.element)
    };
    Ok((at_positions(cos)?, at_positions(sin)?))
}

/// Rotates x [rows, tokens, heads·head]; the operator's default pairs are (i, i + head/2).
pub(crate) fn rotate(
    builder: &mut GraphBuilder,
    x: &Value,
    (cos, sin): &(Value, Value),
    heads: usize,
) -> Result<Value> {
    let cos = builder.cast("", cos, x.element)?;
    let sin = builder.cast("", sin, x.element)?;
    let node = Node::new("RotaryEmbedding", &[x, &cos, &sin]).int("num_heads", heads);
    builder.node("", node, x.element)
}
