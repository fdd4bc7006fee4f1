//! Linear layers: products of floats, or of integers with scales.

use seeward_models::contract::{INT8_HIDDEN, INT8_LINEAR, QUANTIZE_ROWS};
use seeward_models::net::Bias;
use seeward_models::{Error, Result};

use super::WIDE;
use crate::form::Form;
use crate::graph::{Node, Value};
use crate::ops::GraphOps;
use crate::proto::DataType;
use crate::quantize::BLOCK;

/// How the products of a linear layer are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Products {
    /// Of floats.
    Float(DataType),
    /// Of 8-bit weights, a scale for each output, and 8-bit inputs, a scale for each row of them. One scale for all rows
    /// would make a response's reward depend on what is computed beside it, and lose what is small beside what is large.
    Int8,
    /// Of 4-bit weights, a scale for each block of them.
    Int4,
}

impl Products {
    /// Element type of the bias and of what comes out.
    pub(crate) fn element(self) -> DataType {
        match self {
            Self::Float(element) => element,
            Self::Int8 | Self::Int4 => WIDE,
        }
    }
}

/// x [.., inputs] → x·Wᵀ (+ b) [.., outputs].
pub(crate) fn layer(ops: &mut GraphOps, name: &str, x: &Value, bias: Bias) -> Result<Value> {
    let products = ops.products(name);
    let x = match (products, x.element) {
        (Products::Int8, _) => x.clone(),
        (_, DataType::U8) => return Err(Error::invalid("expected numbers, got integers").at(name)),
        _ => ops.cast(name, x, products.element())?,
    };
    let product = match products {
        Products::Float(element) => float(ops, name, &x, element),
        Products::Int8 => return int8(ops, name, &x, bias),
        Products::Int4 => int4(ops, name, &x),
    }?;
    match self::bias(ops, name, bias, products)? {
        None => Ok(product),
        Some(bias) => ops.both("Add", name, &product, &bias),
    }
}

fn bias(ops: &mut GraphOps, name: &str, bias: Bias, products: Products) -> Result<Option<Value>> {
    let form = Form::Stored(products.element());
    match bias {
        Bias::No => Ok(None),
        Bias::Yes => ops.weight(&format!("{name}.bias"), form).map(Some),
    }
}

fn float(ops: &mut GraphOps, name: &str, x: &Value, element: DataType) -> Result<Value> {
    let weight = ops.weight(&format!("{name}.weight"), Form::Transposed(element))?;
    ops.both("MatMul", name, x, &weight)
}

/// Which integers stand for a row's numbers. Unsigned inputs with signed weights are what processors multiply fastest, six
/// times as fast as signed ones here.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    /// The integer for zero; as many lie below it.
    zero: u8,
    /// How many of those above it are used, and no more below it.
    above: u8,
}

impl Range {
    /// As far below zero as above it.
    pub(crate) const EVEN: Self = Self {
        zero: 128,
        above: 127,
    };
    /// A GELU's outputs reach down to −0.17 only: nearly all integers are left for what is above zero.
    pub(crate) const GELU: Self = Self {
        zero: 16,
        above: 239,
    };
}

/// Rows of numbers as integers: a number is (integer − zero) · its row's step.
#[derive(Clone)]
pub(crate) struct QuantizedRows {
    range: Range,
    /// u8 [.., inputs].
    pub(crate) integers: Value,
    /// f32 [.., 1].
    steps: Value,
}

/// A linear layer's weights and bias as our runtime's operators take them.
struct Int8Layer {
    /// Integers, scales and sums.
    weights: [Value; 3],
    bias: Option<Value>,
}

impl Int8Layer {
    fn new(ops: &mut GraphOps, name: &str, bias: Bias) -> Result<Self> {
        let weight = format!("{name}.weight");
        let forms = [Form::Int8, Form::Int8Scales, Form::Int8Sums];
        let [integers, scales, sums] = forms.map(|form| ops.weight(&weight, form));
        Ok(Self {
            weights: [integers?, scales?, sums?],
            bias: self::bias(ops, name, bias, Products::Int8)?,
        })
    }

    /// Adds them to the inputs of `node`.
    fn of<'a>(&'a self, node: Node<'a>) -> Node<'a> {
        let weights = self.weights.iter();
        let node = weights.fold(node, |node, weight| node.input(Some(weight)));
        match &self.bias {
            Some(bias) => node.input(Some(bias)),
            None => node.without(1),
        }
    }
}

/// By our runtime's operator, with steps, scales and bias in the same pass.
fn int8(ops: &mut GraphOps, name: &str, x: &Value, bias: Bias) -> Result<Value> {
    let layer = Int8Layer::new(ops, name, bias)?;
    let rows = ops.quantized(x)?;
    let node = Node::ours(INT8_LINEAR, &[&rows.integers, &rows.steps]);
    let node = layer.of(node).int("zero", rows.range.zero.into());
    ops.node(name, node, WIDE)
}

/// Linear layer and nonlinearity by our runtime's operator, which gives integers in `range`: a GELU of one layer, or a SiLU
/// of the first times the second.
pub(crate) fn hidden(
    ops: &mut GraphOps,
    names: &[&str],
    x: &Value,
    bias: Bias,
    range: Range,
) -> Result<Value> {
    let layers = names.iter().map(|name| Int8Layer::new(ops, name, bias));
    let layers: Vec<_> = layers.collect::<Result<_>>()?;
    let rows = ops.quantized(x)?;
    let node = Node::ours(INT8_HIDDEN, &[&rows.integers, &rows.steps]);
    let node = layers.iter().fold(node, |node, layer| layer.of(node));
    let node = node
        .int("zero", rows.range.zero.into())
        .int("hidden_zero", range.zero.into())
        .int("hidden_above", range.above.into());
    let rows = QuantizedRows::of(ops, node, range)?;
    Ok(ops.integers(rows))
}

impl QuantizedRows {
    /// The outputs of such a node.
    fn of(ops: &mut GraphOps, node: Node, range: Range) -> Result<Self> {
        let outputs = ops.nodes(node, &[DataType::U8, WIDE])?;
        let [integers, steps] = <[Value; 2]>::try_from(outputs)
            .map_err(|_| Error::invalid("expected integers and steps"))?;
        Ok(Self {
            range,
            integers,
            steps,
        })
    }
}

/// x [.., inputs] as integers, each row by itself, by our runtime's operator.
pub(crate) fn quantize(ops: &mut GraphOps, x: &Value, range: Range) -> Result<QuantizedRows> {
    let node = Node::ours(QUANTIZE_ROWS, &[x])
        .int("zero", range.zero.into())
        .int("above", range.above.into());
    QuantizedRows::of(ops, node, range)
}

/// `accuracy_level` of `MatMulNBits`: inputs are rounded to 8 bits, each block of a row with its own scale. The error of a
/// layer is the same as with inputs in f32 (9.67 % and 9.66 %), its speed up to 1.4 times as high.
const INT8_INPUTS: usize = 4;

fn int4(ops: &mut GraphOps, name: &str, x: &Value) -> Result<Value> {
    let weight = format!("{name}.weight");
    let [outputs, inputs] = ops.matrix(&weight)?;
    let integers = ops.weight(&weight, Form::Int4)?;
    let scales = ops.weight(&weight, Form::Int4Scales)?;
    let node = Node::microsoft("MatMulNBits", &[x, &integers, &scales])
        .int("K", inputs)
        .int("N", outputs)
        .int("bits", 4)
        .int("block_size", BLOCK)
        .int("accuracy_level", INT8_INPUTS);
    ops.node(name, node, WIDE)
}
