//! Attention over a forest: the mask once for all layers, then an operator in every layer. ONNX's own `Attention` computes
//! every product of two tokens and keeps them all. For the processor there are three that do less: one that never has more
//! than a block of products, for tokens that all see each other, one that leaves out what lies ahead of a token, and our
//! runtime's own for bundles in integers.

use seeward_models::Result;
use seeward_models::contract::FOREST_ATTENTION;

use super::WIDE;
use crate::graph::{Node, Value};
use crate::ops::GraphOps;
use crate::proto::DataType;

/// Which token sees which, as the target's operator takes it.
#[derive(Clone)]
pub enum TreeMask {
    /// bool [rows, 1, tokens, tokens].
    Visible(Value),
    /// Of `ForestAttention`, which needs none.
    Ids {
        /// i32 [rows, tokens].
        documents: Value,
        /// i32 [rows, tokens].
        branches: Value,
    },
    /// Of `GroupQueryAttention`.
    Added {
        /// What is added before the softmax, f32 [rows, 1, tokens, tokens]: nothing, or the least number.
        bias: Value,
        /// Every row's last token, i32 [rows].
        last: Value,
        /// Tokens of a row, i32 [1].
        tokens: Value,
    },
}

/// Documents and branches [rows, tokens] → which token sees which.
pub(crate) fn tree_mask(
    ops: &mut GraphOps,
    documents: &Value,
    branches: &Value,
) -> Result<TreeMask> {
    if ops.lowering().has_narrow_attention() {
        let (documents, branches) = (documents.clone(), branches.clone());
        return Ok(TreeMask::Ids {
            documents,
            branches,
        });
    }
    let visible = visible(ops, documents, branches)?;
    if !ops.lowering().has_causal_attention() {
        return Ok(TreeMask::Visible(visible));
    }
    let (seen, unseen) = (ops.f32s(&[0.0]), ops.f32s(&[f32::MIN]));
    let bias = Node::new("Where", &[&visible, &seen, &unseen]);
    let bias = ops.node("", bias, WIDE)?;
    let (last, tokens) = lengths(ops, documents)?;
    Ok(TreeMask::Added { bias, last, tokens })
}

/// Ids [rows, tokens] → every row's last token, i32 [rows], and the tokens of a row, i32 [1].
fn lengths(ops: &mut GraphOps, ids: &Value) -> Result<(Value, Value)> {
    let mut axis = |start| {
        let shape = Node::new("Shape", &[ids]).int("start", start);
        ops.node("", shape.int("end", start + 1), DataType::I64)
    };
    let (rows, tokens) = (axis(0)?, axis(1)?);
    let tokens = ops.cast("", &tokens, DataType::I32)?;
    let one = ops.i32s(&[1]);
    let last = ops.both("Sub", "", &tokens, &one)?;
    let last = ops.node("", Node::new("Expand", &[&last, &rows]), DataType::I32)?;
    Ok((last, tokens))
}

/// Documents and branches [rows, tokens] → bool [rows, 1, tokens, tokens]: token i sees j.
fn visible(ops: &mut GraphOps, documents: &Value, branches: &Value) -> Result<Value> {
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

/// Query, key and value [rows, tokens, heads·head] → the same layout. The softmax is wide.
pub(crate) fn attend(
    ops: &mut GraphOps,
    [q, k, v]: [&Value; 3],
    mask: Option<&TreeMask>,
    heads: (usize, usize),
) -> Result<Value> {
    // Normalised queries and keys are wide; the products are as narrow as the values.
    let (q, k) = (ops.cast("", q, v.element)?, ops.cast("", k, v.element)?);
    let qkv = [&q, &k, v];
    let lowering = ops.lowering();
    if lowering.has_narrow_attention() {
        return attend_narrowly(ops, qkv, mask, heads);
    }
    let visible = match mask {
        Some(TreeMask::Added { bias, last, tokens }) => {
            return attend_causally(ops, qkv, [last, tokens, bias], heads);
        }
        Some(TreeMask::Visible(visible)) => Some(visible),
        Some(TreeMask::Ids { .. }) | None => None,
    };
    if lowering.heads_are_an_axis() {
        return attend_over_heads(ops, qkv, visible, heads);
    }
    let node = if lowering.is_for_the_processor() && visible.is_none() && heads.0 == heads.1 {
        Node::microsoft("MultiHeadAttention", &qkv).int("num_heads", heads.0)
    } else {
        attention(&qkv, visible)
            .int("q_num_heads", heads.0)
            .int("kv_num_heads", heads.1)
    };
    ops.node("", node, qkv[0].element)
}

/// By way of our runtime's operator, which leaves out all that a token does not see.
fn attend_narrowly(
    ops: &mut GraphOps,
    qkv: [&Value; 3],
    mask: Option<&TreeMask>,
    heads: (usize, usize),
) -> Result<Value> {
    let mut node = Node::ours(FOREST_ATTENTION, &qkv)
        .int("q_num_heads", heads.0)
        .int("kv_num_heads", heads.1);
    if let Some(TreeMask::Ids {
        documents,
        branches,
    }) = mask
    {
        node = node.input(Some(documents)).input(Some(branches));
    }
    ops.node("", node, qkv[0].element)
}

/// By way of an operator that takes no token to see a later one, which none does in a forest.
fn attend_causally(
    ops: &mut GraphOps,
    qkv: [&Value; 3],
    [last, tokens, bias]: [&Value; 3],
    heads: (usize, usize),
) -> Result<Value> {
    let node = Node::microsoft("GroupQueryAttention", &qkv)
        .without(2) // keys and values of before
        .input(Some(last))
        .input(Some(tokens))
        .without(3) // rotary tables and positions
        .input(Some(bias))
        .int("num_heads", heads.0)
        .int("kv_num_heads", heads.1);
    Ok(ops.nodes(node, &[qkv[0].element; 3])?.remove(0))
}

fn attend_over_heads(
    ops: &mut GraphOps,
    [q, k, v]: [&Value; 3],
    mask: Option<&Value>,
    heads: (usize, usize),
) -> Result<Value> {
    let q = apart(ops, q, heads.0)?;
    let (k, v) = (apart(ops, k, heads.1)?, apart(ops, v, heads.1)?);
    let mixed = ops.node("", attention(&[&q, &k, &v], mask), q.element)?;
    let tokens_first = ops.transpose(&mixed, &HEADS_AND_TOKENS_SWAPPED)?;
    ops.reshape(&tokens_first, &[0, 0, -1])
}

fn attention<'a>(qkv: &[&'a Value; 3], mask: Option<&'a Value>) -> Node<'a> {
    Node::new("Attention", qkv)
        .input(mask)
        .int("softmax_precision", WIDE as usize)
}

const HEADS_AND_TOKENS_SWAPPED: [usize; 4] = [0, 2, 1, 3];

/// [rows, tokens, heads·head] → [rows, heads, tokens, head].
fn apart(ops: &mut GraphOps, x: &Value, heads: usize) -> Result<Value> {
    let split = ops.reshape(x, &[0, 0, heads as i64, -1])?;
    ops.transpose(&split, &HEADS_AND_TOKENS_SWAPPED)
}
