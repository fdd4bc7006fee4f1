//! Attention within windows by ONNX Runtime's CPU operators: a window becomes a row, so that tokens of different windows are
//! never multiplied. Short windows are padded to the longest.

use seeward_models::Result;

use crate::data_type::DataType;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;

/// Where the tokens of an image are among the places of its windows.
#[derive(Clone)]
pub struct Windows {
    /// The token at each place, i64 `[windows·places]`; padding repeats the first token.
    tokens: Value,
    /// The place of each token, i64 `[rows·tokens]`.
    places: Value,
    /// Shape of values by window, i64 `[3]`: windows, places of a window, width.
    shape: Value,
    /// The places that hold a token, bool `[windows, 1, places, places]`.
    pub(super) visible: Value,
}

impl Windows {
    /// From the window of each token, i32 `[rows, tokens]`, once for all layers.
    pub(super) fn new(builder: &mut GraphBuilder, ids: &Value) -> Result<Self> {
        let ids = unique(builder, ids)?;
        let [zero, one] = [0, 1].map(|value| builder.i64s(&[value]));
        let last = reduced(builder, "ReduceMax", &ids)?;
        let windows = builder.elementwise("Add", "", [&last, &one])?;
        let (order, tokens) = sorted(builder, &ids)?;
        let counts = counted(builder, &ids, &windows, &tokens)?;
        let longest = reduced(builder, "ReduceMax", &counts)?;
        let places = places(builder, &ids, &order, [&counts, &longest])?;
        let count = builder.elementwise("Mul", "", [&windows, &longest])?;
        let rest = builder.i64s(&[-1]);
        let unused = expanded(builder, &zero, &count)?;
        let unplaced = expanded(builder, &zero, &tokens)?;
        Ok(Self {
            tokens: scattered(builder, &unused, [&places, &order], None)?,
            places: scattered(builder, &unplaced, [&order, &places], None)?,
            shape: joined(builder, &[&windows, &longest, &rest])?,
            visible: visible(builder, &counts, [&windows, &longest])?,
        })
    }

    /// x `[rows, tokens, width]` → `[windows, places, width]`.
    pub(super) fn gather(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        let rows = builder.rows(x)?;
        let gathered = Node::new("Gather", &[&rows, &self.tokens]);
        let gathered = builder.node("", gathered, x.element)?;
        let shaped = Node::new("Reshape", &[&gathered, &self.shape]);
        builder.node("", shaped, x.element)
    }

    /// x `[windows, places, width]` → the shape of `like`, `[rows, tokens, width]`.
    pub(super) fn scatter(
        &self,
        builder: &mut GraphBuilder,
        x: &Value,
        like: &Value,
    ) -> Result<Value> {
        let rows = builder.rows(x)?;
        let tokens = Node::new("Gather", &[&rows, &self.places]);
        let tokens = builder.node("", tokens, x.element)?;
        builder.shaped_like(&tokens, like)
    }
}

/// Ids `[rows, tokens]` → i64 `[rows·tokens]`, other ids in every row.
fn unique(builder: &mut GraphBuilder, ids: &Value) -> Result<Value> {
    let ids = builder.cast("", ids, DataType::I64)?;
    let one = builder.i64s(&[1]);
    let last = reduced(builder, "ReduceMax", &ids)?;
    let windows = builder.elementwise("Add", "", [&last, &one])?;
    let rows = Node::new("Shape", &[&ids]).int("end", 1);
    let rows = builder.node("", rows, DataType::I64)?;
    let row = counting(builder, &rows)?;
    let first = builder.elementwise("Mul", "", [&row, &windows])?;
    let first = builder.unsqueeze(&first, 1)?;
    let ids = builder.elementwise("Add", "", [&ids, &first])?;
    builder.reshape(&ids, &[-1])
}

/// Ids `[n]` → the tokens in the order of their windows, i64 `[n]`, and their number `[1]`.
fn sorted(builder: &mut GraphBuilder, ids: &Value) -> Result<(Value, Value)> {
    let tokens = builder.node("", Node::new("Shape", &[ids]), DataType::I64)?;
    let index = counting(builder, &tokens)?;
    let first = builder.elementwise("Mul", "", [ids, &tokens])?;
    // All different, so that the order is that of the tokens in every window.
    let key = builder.elementwise("Add", "", [&first, &index])?;
    let sorted = Node::new("TopK", &[&key, &tokens]).int("largest", 0);
    let order = builder.nodes(sorted, &[DataType::I64; 2])?.remove(1);
    Ok((order, tokens))
}

/// The number of tokens of each window, i64 `[windows]`.
fn counted(
    builder: &mut GraphBuilder,
    ids: &Value,
    windows: &Value,
    tokens: &Value,
) -> Result<Value> {
    let [zero, one] = [0, 1].map(|value| builder.i64s(&[value]));
    let none = expanded(builder, &zero, windows)?;
    let ones = expanded(builder, &one, tokens)?;
    scattered(builder, &none, [ids, &ones], Some("add"))
}

/// The place of each token in the order of windows, i64 `[n]`.
fn places(
    builder: &mut GraphBuilder,
    ids: &Value,
    order: &Value,
    [counts, longest]: [&Value; 2],
) -> Result<Value> {
    let window = Node::new("Gather", &[ids, order]);
    let window = builder.node("", window, DataType::I64)?;
    // Padding before a token: as many places as earlier windows have, less their tokens.
    let padding = builder.elementwise("Sub", "", [longest, counts])?;
    let zero = scalar(builder, 0)?;
    let before = Node::new("CumSum", &[&padding, &zero]).int("exclusive", 1);
    let before = builder.node("", before, DataType::I64)?;
    let before = Node::new("Gather", &[&before, &window]);
    let before = builder.node("", before, DataType::I64)?;
    let tokens = builder.node("", Node::new("Shape", &[order]), DataType::I64)?;
    let index = counting(builder, &tokens)?;
    builder.elementwise("Add", "", [&index, &before])
}

/// The places that hold a token, for every query.
fn visible(
    builder: &mut GraphBuilder,
    counts: &Value,
    [windows, longest]: [&Value; 2],
) -> Result<Value> {
    let index = counting(builder, longest)?;
    let counts = builder.reshape(counts, &[-1, 1, 1, 1])?;
    let used = Node::new("Less", &[&index, &counts]);
    let used = builder.node("", used, DataType::Bool)?;
    let one = builder.i64s(&[1]);
    let shape = joined(builder, &[windows, &one, longest, longest])?;
    expanded(builder, &used, &shape)
}

/// `base` with values at places along its only axis.
fn scattered(
    builder: &mut GraphBuilder,
    base: &Value,
    [at, values]: [&Value; 2],
    reduction: Option<&str>,
) -> Result<Value> {
    let node = Node::new("ScatterElements", &[base, at, values]);
    let node = match reduction {
        Some(name) => node.text("reduction", name),
        None => node,
    };
    builder.node("", node, base.element)
}

/// 0, 1, 2, … below a count `[1]`.
fn counting(builder: &mut GraphBuilder, count: &Value) -> Result<Value> {
    let [start, step] = [0, 1].map(|value| scalar(builder, value));
    let (no_axis, element) = (builder.i64s(&[]), DataType::I64);
    let count = Node::new("Reshape", &[count, &no_axis]);
    let count = builder.node("", count, element)?;
    builder.node("", Node::new("Range", &[&start?, &count, &step?]), element)
}

/// A constant without an axis.
fn scalar(builder: &mut GraphBuilder, value: i64) -> Result<Value> {
    let value = builder.i64s(&[value]);
    let no_axis = builder.i64s(&[]);
    let node = Node::new("Reshape", &[&value, &no_axis]);
    builder.node("", node, DataType::I64)
}

/// `[1]`, over all elements.
fn reduced(builder: &mut GraphBuilder, op: &str, x: &Value) -> Result<Value> {
    let all = builder.node("", Node::new(op, &[x]).int("keepdims", 0), x.element)?;
    builder.reshape(&all, &[1])
}

fn expanded(builder: &mut GraphBuilder, x: &Value, shape: &Value) -> Result<Value> {
    builder.node("", Node::new("Expand", &[x, shape]), x.element)
}

fn joined(builder: &mut GraphBuilder, sizes: &[&Value]) -> Result<Value> {
    let node = Node::new("Concat", sizes).axis(0);
    builder.node("", node, DataType::I64)
}
