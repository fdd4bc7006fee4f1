//! Pixels to patches, and patches to fewer, wider ones.

use seeward_models::Result;
use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;

use super::WIDE;
use crate::graph::{Node, Value};
use crate::ops::GraphOps;
use crate::proto::DataType;

/// u8 pixels [tiles, H, W, 3] → normalised → patches [tiles, patches, width].
pub(crate) fn embedding(
    ops: &mut GraphOps,
    name: &str,
    pixels: &Value,
    patch: usize,
    n: Normalization,
) -> Result<Value> {
    let normalized = normalize(ops, pixels, n)?;
    let channels_first = ops.transpose(&normalized, &[0, 3, 1, 2])?;
    let weight = ops.parameter(&format!("{name}.weight"))?;
    let bias = ops.parameter(&format!("{name}.bias"))?;
    let node = Node::new("Conv", &[&channels_first, &weight, &bias])
        .ints("kernel_shape", &[patch, patch])
        .ints("strides", &[patch, patch]);
    let grid = ops.node(name, node, weight.element)?;
    let columns = ops.reshape(&grid, &[0, 0, -1])?;
    ops.transpose(&columns, &[0, 2, 1])
}

/// (x / 255 − mean) / std, in the published order of operations.
fn normalize(ops: &mut GraphOps, pixels: &Value, n: Normalization) -> Result<Value> {
    let x = ops.cast("", pixels, WIDE)?;
    let (white, mean, std) = (ops.f32s(&[255.0]), ops.f32s(&n.mean()), ops.f32s(&n.std()));
    let x = ops.both("Div", "", &x, &white)?;
    let x = ops.both("Sub", "", &x, &mean)?;
    ops.both("Div", "", &x, &std)
}

/// The parameter [1, 1, width] before the tokens of every row of x [rows, tokens, width].
pub(crate) fn prepend(ops: &mut GraphOps, name: &str, x: &Value) -> Result<Value> {
    let parameter = ops.parameter(name)?;
    let x = ops.cast(name, x, parameter.element)?;
    let rows = Node::new("Shape", &[&x]).int("start", 0).int("end", 1);
    let rows = ops.node(name, rows, DataType::I64)?;
    let ones = ops.i64s(&[1, 1]);
    let shape = Node::new("Concat", &[&rows, &ones]).axis(0);
    let shape = ops.node(name, shape, DataType::I64)?;
    let first = Node::new("Expand", &[&parameter, &shape]);
    let first = ops.node(name, first, parameter.element)?;
    ops.node(name, Node::new("Concat", &[&first, &x]).axis(1), x.element)
}

/// [tiles, side², width] → [tiles, (side/window)², window²·width]: a window's patches side by side, row by row.
pub(crate) fn pixel_shuffle(
    ops: &mut GraphOps,
    x: &Value,
    side: usize,
    window: usize,
    order: TokenOrder,
) -> Result<Value> {
    let tokens = match order {
        TokenOrder::ByRow => [0, 1, 3, 2, 4, 5],
        TokenOrder::ByColumn => [0, 3, 1, 2, 4, 5],
    };
    let (windows, window) = ((side / window) as i64, window as i64);
    let grid = ops.reshape(x, &[0, windows, window, windows, window, -1])?;
    let grouped = ops.transpose(&grid, &tokens)?;
    ops.reshape(&grouped, &[0, windows * windows, -1])
}
