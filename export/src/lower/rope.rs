//! Rotary positions, from tables that are fed: no length is built in.

use seeward_models::Result;

use crate::graph::{Node, Value};
use crate::ops::GraphOps;

/// Rows of cos and sin [entries, head/2] at positions [rows, tokens] → [rows, tokens, head/2] each.
pub(crate) fn table(
    ops: &mut GraphOps,
    cos: &Value,
    sin: &Value,
    positions: &Value,
) -> Result<(Value, Value)> {
    let mut at_positions = |table: &Value| {
        let node = Node::new("Gather", &[table, positions]);
        ops.node("", node, table.element)
    };
    Ok((at_positions(cos)?, at_positions(sin)?))
}

/// Rotates x [rows, tokens, heads·head]; the operator's pairs are (i, i + head/2) unless told otherwise.
pub(crate) fn rotate(
    ops: &mut GraphOps,
    x: &Value,
    (cos, sin): &(Value, Value),
    heads: usize,
) -> Result<Value> {
    let (cos, sin) = (ops.cast("", cos, x.element)?, ops.cast("", sin, x.element)?);
    let node = Node::new("RotaryEmbedding", &[x, &cos, &sin]).int("num_heads", heads);
    ops.node("", node, x.element)
}
