//! Attention over a forest or within windows: the mask once for all layers, then an operator in every layer.

use seeward_models::Result;
use seeward_models::contract::FOREST_ATTENTION;

use super::windows::Windows;
use super::{AttentionKind, WIDE};
use crate::data_type::DataType;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;

/// The visibility of tokens, as the attention operator takes it.
#[derive(Clone)]
pub enum TokenMask {
    /// For `Attention`: bool `[rows, 1, tokens, tokens]`, of a forest or of windows.
    Visible(Value),
    /// For `ForestAttention`, which computes visibility itself.
    Ids {
        /// Documents, or windows: i32 `[rows, tokens]`.
        documents: Value,
        /// i32 `[rows, tokens]`, of a forest.
        branches: Option<Value>,
    },
    /// For attention of ONNX Runtime's CPU operators within windows.
    Windows(Windows),
    /// For `GroupQueryAttention`.
    Added {
        /// The term added before the softmax, f32 `[rows, 1, tokens, tokens]`: zero, or f32's minimum.
        bias: Value,
        /// Index of every row's last token, i32 `[rows]`.
        last: Value,
        /// Number of tokens of a row, i32 `[1]`.
        tokens: Value,
    },
}

/// Documents and branches [rows, tokens] → the visibility of tokens.
pub(crate) fn tree_mask(
    builder: &mut GraphBuilder,
    kind: AttentionKind,
    documents: &Value,
    branches: &Value,
) -> Result<TokenMask> {
    match kind {
        AttentionKind::Forest => Ok(TokenMask::Ids {
            documents: documents.clone(),
            branches: Some(branches.clone()),
        }),
        AttentionKind::CpuCausal => added(builder, documents, branches),
        AttentionKind::Standard | AttentionKind::StandardByHead | AttentionKind::Cpu => {
            visible(builder, documents, branches).map(TokenMask::Visible)
        }
    }
}

/// Windows [rows, tokens] → the visibility of tokens.
pub(crate) fn window_mask(
    builder: &mut GraphBuilder,
    kind: AttentionKind,
    windows: &Value,
) -> Result<TokenMask> {
    match kind {
        AttentionKind::Forest => Ok(TokenMask::Ids {
            documents: windows.clone(),
            branches: None,
        }),
        AttentionKind::Cpu | AttentionKind::CpuCausal => {
            Windows::new(builder, windows).map(TokenMask::Windows)
        }
        // Other providers do not take shapes that depend on the values of ids.
        AttentionKind::Standard | AttentionKind::StandardByHead => {
            let same = equal_pairs(builder, windows)?;
            builder.unsqueeze(&same, 1).map(TokenMask::Visible)
        }
    }
}

fn added(builder: &mut GraphBuilder, documents: &Value, branches: &Value) -> Result<TokenMask> {
    let visible = visible(builder, documents, branches)?;
    let (seen, unseen) = (builder.f32s(&[0.0]), builder.f32s(&[f32::MIN]));
    let bias = Node::new("Where", &[&visible, &seen, &unseen]);
    let bias = builder.node("", bias, WIDE)?;
    let (last, tokens) = lengths(builder, documents)?;
    Ok(TokenMask::Added { bias, last, tokens })
}

/// Ids [rows, tokens] → index of every row's last token, i32 [rows], and the number of tokens of a row, i32 [1].
fn lengths(builder: &mut GraphBuilder, ids: &Value) -> Result<(Value, Value)> {
    let mut axis = |start| {
        let shape = Node::new("Shape", &[ids]).int("start", start);
        builder.node("", shape.int("end", start + 1), DataType::I64)
    };
    let (rows, tokens) = (axis(0)?, axis(1)?);
    let tokens = builder.cast("", &tokens, DataType::I32)?;
    let one = builder.i32s(&[1]);
    let last = builder.elementwise("Sub", "", [&tokens, &one])?;
    let last = builder.node("", Node::new("Expand", &[&last, &rows]), DataType::I32)?;
    Ok((last, tokens))
}

/// Documents and branches [rows, tokens] → bool [rows, 1, tokens, tokens]: token i sees j.
fn visible(builder: &mut GraphBuilder, documents: &Value, branches: &Value) -> Result<Value> {
    let same_document = equal_pairs(builder, documents)?;
    let same_branch = equal_pairs(builder, branches)?;
    let in_prefix = seen_is_prefix(builder, branches)?;
    let branch = builder.elementwise("Or", "", [&same_branch, &in_prefix])?;
    let visible = builder.elementwise("And", "", [&same_document, &branch])?;
    let causal = Node::new("Trilu", &[&visible]).int("upper", 0);
    let causal = builder.node("", causal, DataType::Bool)?;
    builder.unsqueeze(&causal, 1)
}

/// Ids [rows, tokens] → whether i and j have the same id, [rows, tokens, tokens].
fn equal_pairs(builder: &mut GraphBuilder, ids: &Value) -> Result<Value> {
    let (seeing, seen) = (builder.unsqueeze(ids, 2)?, builder.unsqueeze(ids, 1)?);
    builder.node("", Node::new("Equal", &[&seeing, &seen]), DataType::Bool)
}

/// Branches [rows, tokens] → whether j's is 0, [rows, 1, tokens].
fn seen_is_prefix(builder: &mut GraphBuilder, branches: &Value) -> Result<Value> {
    let seen = builder.unsqueeze(branches, 1)?;
    let prefix = builder.i32s(&[0]);
    builder.node("", Node::new("Equal", &[&seen, &prefix]), DataType::Bool)
}

/// Number of query heads and of key heads.
type Heads = (usize, usize);

/// Query, key and value [rows, tokens, heads·head] → the same shape. The softmax is wide.
pub(crate) fn attend(
    builder: &mut GraphBuilder,
    kind: AttentionKind,
    [q, k, v]: [&Value; 3],
    mask: Option<&TokenMask>,
    heads: Heads,
) -> Result<Value> {
    // Normalised queries and keys are wide; the products are as narrow as the values.
    let q = builder.cast("", q, v.element)?;
    let k = builder.cast("", k, v.element)?;
    let qkv = [&q, &k, v];
    let visible = match mask {
        Some(TokenMask::Visible(visible)) => Some(visible),
        _ => None,
    };
    let node = match (kind, mask) {
        (AttentionKind::CpuCausal, Some(TokenMask::Added { bias, last, tokens })) => {
            return causal(builder, qkv, [last, tokens, bias], heads);
        }
        (_, Some(TokenMask::Windows(windows))) => return by_window(builder, qkv, windows, heads),
        (AttentionKind::StandardByHead, _) => return by_head(builder, qkv, visible, heads),
        (AttentionKind::Forest, mask) => forest(qkv, mask, heads),
        (AttentionKind::Cpu | AttentionKind::CpuCausal, None) if heads.0 == heads.1 => {
            Node::microsoft("MultiHeadAttention", &qkv).int("num_heads", heads.0)
        }
        _ => with_heads(standard(qkv, visible), heads),
    };
    builder.node("", node, v.element)
}

fn forest(qkv: [&Value; 3], mask: Option<&TokenMask>, heads: Heads) -> Node {
    let node = with_heads(Node::seeward(FOREST_ATTENTION, &qkv), heads);
    match mask {
        Some(TokenMask::Ids {
            documents,
            branches,
        }) => node.input(Some(documents)).input(branches.as_ref()),
        _ => node,
    }
}

fn standard(qkv: [&Value; 3], visible: Option<&Value>) -> Node {
    Node::new("Attention", &qkv)
        .input(visible)
        .int("softmax_precision", WIDE as usize)
}

fn with_heads(node: Node, heads: Heads) -> Node {
    node.int("q_num_heads", heads.0)
        .int("kv_num_heads", heads.1)
}

/// By an operator in which no token sees a later one, as in a forest.
fn causal(
    builder: &mut GraphBuilder,
    qkv: [&Value; 3],
    [last, tokens, bias]: [&Value; 3],
    heads: Heads,
) -> Result<Value> {
    let node = Node::microsoft("GroupQueryAttention", &qkv)
        .omit(2) // cached keys and values
        .input(Some(last))
        .input(Some(tokens))
        .omit(3) // rotary tables and positions
        .input(Some(bias))
        .int("num_heads", heads.0)
        .int("kv_num_heads", heads.1);
    Ok(builder.nodes(node, &[qkv[0].element; 3])?.remove(0))
}

fn by_window(
    builder: &mut GraphBuilder,
    [q, k, v]: [&Value; 3],
    windows: &Windows,
    heads: Heads,
) -> Result<Value> {
    let [rows_q, rows_k, rows_v] = [q, k, v].map(|x| windows.gather(builder, x));
    let node = standard([&rows_q?, &rows_k?, &rows_v?], Some(&windows.visible));
    let attended = builder.node("", with_heads(node, heads), v.element)?;
    windows.scatter(builder, &attended, q)
}

fn by_head(
    builder: &mut GraphBuilder,
    [q, k, v]: [&Value; 3],
    visible: Option<&Value>,
    heads: Heads,
) -> Result<Value> {
    let q = split_heads(builder, q, heads.0)?;
    let k = split_heads(builder, k, heads.1)?;
    let v = split_heads(builder, v, heads.1)?;
    let attended = builder.node("", standard([&q, &k, &v], visible), q.element)?;
    let tokens_first = builder.transpose(&attended, &HEADS_AND_TOKENS_SWAPPED)?;
    builder.reshape(&tokens_first, &[0, 0, -1])
}

const HEADS_AND_TOKENS_SWAPPED: [usize; 4] = [0, 2, 1, 3];

/// [rows, tokens, heads·head] → [rows, heads, tokens, head].
fn split_heads(builder: &mut GraphBuilder, x: &Value, heads: usize) -> Result<Value> {
    let split = builder.reshape(x, &[0, 0, heads as i64, -1])?;
    builder.transpose(&split, &HEADS_AND_TOKENS_SWAPPED)
}
