//! Patch embedding of tiles and of patches, and pixel shuffle to fewer, wider patches.

use seeward_models::Result;
use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use seeward_models::net::Bias;

use super::WIDE;
use crate::data_type::DataType;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;

/// u8 pixels [tiles, H, W, 3] → normalised → patches [tiles, patches, width].
pub(crate) fn embedding(
    builder: &mut GraphBuilder,
    name: &str,
    pixels: &Value,
    patch: usize,
    n: Normalization,
) -> Result<Value> {
    let normalized = normalize(builder, pixels, n, &[3])?;
    let channels_first = builder.transpose(&normalized, &[0, 3, 1, 2])?;
    let weight = builder.weight(&format!("{name}.weight"), WIDE)?;
    let bias = builder.weight(&format!("{name}.bias"), WIDE)?;
    let node = Node::new("Conv", &[&channels_first, &weight, &bias])
        .ints("kernel_shape", &[patch, patch])
        .ints("strides", &[patch, patch]);
    let grid = builder.node(name, node, weight.element)?;
    let columns = builder.reshape(&grid, &[0, 0, -1])?;
    builder.transpose(&columns, &[0, 2, 1])
}

/// u8 patches [rows, patches, 3·patch²], channel by channel → normalised → [rows, patches, width]. The frames of the weight
/// [width, 3, frames, patch, patch] see the same pixels: their sum does.
pub(crate) fn projection(
    builder: &mut GraphBuilder,
    name: &str,
    patches: &Value,
    bias: Bias,
    n: Normalization,
) -> Result<Value> {
    // TensorRT does nothing with bytes but cast them.
    let patches = builder.cast("", patches, WIDE)?;
    let channels = builder.reshape(&patches, &[0, 0, 3, -1])?;
    let normalized = normalize(builder, &channels, n, &[3, 1])?;
    let x = builder.reshape(&normalized, &[0, 0, -1])?;
    let weight = builder.weight(&format!("{name}.weight"), WIDE)?;
    let summed = builder.sum(name, &weight, 2)?;
    let matrix = builder.reshape(&summed, &[0, -1])?;
    let transposed = builder.transpose(&matrix, &[1, 0])?;
    let product = builder.elementwise("MatMul", name, [&x, &transposed])?;
    match bias {
        Bias::No => Ok(product),
        Bias::Yes => {
            let bias = builder.weight(&format!("{name}.bias"), WIDE)?;
            builder.elementwise("Add", name, [&product, &bias])
        }
    }
}

/// (x / 255 − mean) / std, in the published order of operations; the values of channels have this shape.
fn normalize(
    builder: &mut GraphBuilder,
    pixels: &Value,
    n: Normalization,
    channels: &[i64],
) -> Result<Value> {
    let x = builder.cast("", pixels, WIDE)?;
    let white = builder.f32s(&[255.0]);
    let mut of_channels = |values: [f32; 3]| {
        let values = builder.f32s(&values);
        match channels.len() {
            1 => Ok(values),
            _ => builder.reshape(&values, channels),
        }
    };
    let (mean, std) = (of_channels(n.mean())?, of_channels(n.std())?);
    let x = builder.elementwise("Div", "", [&x, &white])?;
    let x = builder.elementwise("Sub", "", [&x, &mean])?;
    builder.elementwise("Div", "", [&x, &std])
}

/// The parameter [1, 1, width] before the tokens of every row of x [rows, tokens, width].
pub(crate) fn prepend(builder: &mut GraphBuilder, name: &str, x: &Value) -> Result<Value> {
    let parameter = builder.weight(name, WIDE)?;
    let x = builder.cast(name, x, parameter.element)?;
    let rows = Node::new("Shape", &[&x]).int("start", 0).int("end", 1);
    let rows = builder.node(name, rows, DataType::I64)?;
    let ones = builder.i64s(&[1, 1]);
    let shape = Node::new("Concat", &[&rows, &ones]).axis(0);
    let shape = builder.node(name, shape, DataType::I64)?;
    let first = Node::new("Expand", &[&parameter, &shape]);
    let first = builder.node(name, first, parameter.element)?;
    builder.node(name, Node::new("Concat", &[&first, &x]).axis(1), x.element)
}

/// [tiles, side², width] → [tiles, (side/window)², window²·width]: a window's patches side by side, row by row.
pub(crate) fn pixel_shuffle(
    builder: &mut GraphBuilder,
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
    let grid = builder.reshape(x, &[0, windows, window, windows, window, -1])?;
    let grouped = builder.transpose(&grid, &tokens)?;
    builder.reshape(&grouped, &[0, windows * windows, -1])
}
