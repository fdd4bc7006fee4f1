//! Attention over a forest: the mask once for all layers, then one `Attention` operator a layer.

use seeward_models::Result;

use crate::graph::{Node, Value};
use crate::ops::GraphOps;
use crate::proto::DataType;

/// Documents and branches [rows, tokens] → bool [rows, 1, tokens, tokens]: token i sees j.
pub(crate) fn tree_mask(ops: &mut GraphOps, documents: &Value, branches: &Value) -> Result<Value> {
    let same_document = equal_pairs(ops, documents)?;
    let same_branch = equal_pairs(ops, branches)?;
    let in_prefix = seen_is_prefix(ops, branches)?;
    let branch = ops.both("Or", "", &same_branch, &in_prefix)?;
    let visible = ops.both("And", "", &same_document, &branch)?;
    let causal = Node::new("Trilu", &[&visible]).int("upper", 0);
    let causal = ops.node("", causal, DataType::Bool)?;
    ops.unsqueeze(&causal, 1)
}

/// Ids [rows, tokens] → whether i and j have the same, [rows, tokens, tokens].
fn equal_pairs(ops: &mut GraphOps, ids: &Value) -> Result<Value> {
    let (seeing, seen) = (ops.unsqueeze(ids, 2)?, ops.unsqueeze(ids, 1)?);
    ops.node("", Node::new("Equal", &[&seeing, &seen]), DataType::Bool)
}

/// Branches [rows, tokens] → whether j's is 0, [rows, 1, tokens].
fn seen_is_prefix(ops: &mut GraphOps, branches: &Value) -> Result<Value> {
    let seen = ops.unsqueeze(branches, 1)?;
    let prefix = ops.i32s(&[0]);
    ops.node("", Node::new("Equal", &[&seen, &prefix]), DataType::Bool)
}

/// Query, key and value [rows, tokens, heads·head] → the same layout. The softmax is computed in f32.
pub(crate) fn attend(
    ops: &mut GraphOps,
    qkv: [&Value; 3],
    mask: Option<&Value>,
    heads: (usize, usize),
) -> Result<Value> {
    let node = Node::new("Attention", &qkv)
        .input(mask)
        .int("q_num_heads", heads.0)
        .int("kv_num_heads", heads.1)
        .int("softmax_precision", DataType::F32 as usize);
    ops.node("", node, qkv[0].element)
}
