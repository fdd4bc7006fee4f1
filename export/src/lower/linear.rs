//! Linear layers: products of floats, of bf16 in panels, or of integers with scales.

use std::rc::Rc;

use seeward_models::contract::{BF16_HIDDEN, BF16_LINEAR, INT8_HIDDEN, INT8_LINEAR, QUANTIZE_ROWS};
use seeward_models::net::Bias;
use seeward_models::{Error, Result};

use super::{Products, WIDE};
use crate::data_type::DataType;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::{Quantization, Value, ZERO_POINT};
use crate::weights::layout::WeightLayout;

/// A linear layer.
pub(crate) struct Linear<'a> {
    pub(crate) name: &'a str,
    pub(crate) bias: Bias,
    pub(crate) products: Products,
}

impl Linear<'_> {
    fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    fn bias(&self, builder: &mut GraphBuilder) -> Result<Option<Value>> {
        match self.bias {
            Bias::No => Ok(None),
            Bias::Yes => builder
                .weight(&format!("{}.bias", self.name), self.products.element())
                .map(Some),
        }
    }

    /// x [.., inputs] → x·Wᵀ (+ b) [.., outputs].
    ///
    /// # Errors
    /// A missing weight, or integers where the layer takes floats.
    pub(crate) fn apply(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        let product = match self.products {
            Products::Float(_) => self.float(builder, x),
            Products::Bf16 => return self.bf16(builder, x),
            Products::Int8 => return self.int8(builder, x),
        }?;
        match self.bias(builder)? {
            None => Ok(product),
            Some(bias) => builder.elementwise("Add", self.name, [&product, &bias]),
        }
    }

    /// `x` in the layer's element type.
    fn floats(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        if x.quantization.is_some() {
            return Err(Error::invalid("expected floats, got integers").at(self.name));
        }
        builder.cast(self.name, x, self.products.element())
    }

    fn float(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        let x = self.floats(builder, x)?;
        let layout = WeightLayout::Transposed(self.products.element());
        let [weight] = builder.weight_parts(&self.weight(), layout)?;
        builder.elementwise("MatMul", self.name, [&x, &weight])
    }

    /// By an operator of Seeward's runtime that rounds the inputs and adds the bias in the same pass.
    fn bf16(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        let node = self.append_bf16(builder, Node::seeward(BF16_LINEAR, &[x]))?;
        let node = node.int("outputs", self.outputs(builder)?);
        builder.node(self.name, node, WIDE)
    }

    /// Appends weights and bias to the inputs of `node`.
    fn append_bf16(&self, builder: &mut GraphBuilder, node: Node) -> Result<Node> {
        let [weight] = builder.weight_parts(&self.weight(), WeightLayout::Bf16)?;
        let node = node.input(Some(&weight));
        Ok(match self.bias(builder)? {
            Some(bias) => node.input(Some(&bias)),
            None => node.omit(1),
        })
    }

    fn outputs(&self, builder: &GraphBuilder) -> Result<usize> {
        let [outputs, _] = builder.matrix(&self.weight())?;
        Ok(outputs)
    }

    /// By an operator of Seeward's runtime that applies scales and bias in the same pass.
    fn int8(&self, builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
        let weights = Int8Weights::of(builder, self)?;
        let x = quantized(builder, x)?;
        let scales = &quantization(&x)?.scales;
        let node = weights.append_to(Node::seeward(INT8_LINEAR, &[&x, scales]));
        builder.node(self.name, weights.attributes_of(node), WIDE)
    }
}

/// A layer's weights and bias as the operators of Seeward's runtime take them.
struct Int8Weights {
    outputs: usize,
    /// Integers, scales and sums.
    parts: [Value; 3],
    bias: Option<Value>,
}

impl Int8Weights {
    fn of(builder: &mut GraphBuilder, layer: &Linear) -> Result<Self> {
        let [outputs, _] = builder.matrix(&layer.weight())?;
        Ok(Self {
            outputs,
            parts: builder.weight_parts(&layer.weight(), WeightLayout::Int8)?,
            bias: layer.bias(builder)?,
        })
    }

    /// Appends them to the inputs of `node`.
    fn append_to(&self, node: Node) -> Node {
        let parts = self.parts.iter();
        let node = parts.fold(node, |node, part| node.input(Some(part)));
        match &self.bias {
            Some(bias) => node.input(Some(bias)),
            None => node.omit(1),
        }
    }

    /// Sets the attributes of an operator over layers like this one.
    fn attributes_of(&self, node: Node) -> Node {
        node.int("zero", ZERO_POINT).int("outputs", self.outputs)
    }
}

/// Layers that are fused ([`Products::fuses_hidden`]) over one input, and the nonlinearity after them: the GELU of one layer,
/// or the SiLU of the first times the second. An operator of Seeward's runtime computes both and returns what the next layer
/// reads: in 8 bits integers in the range `output`, else bf16.
///
/// # Errors
/// A missing weight.
pub(crate) fn hidden(builder: &mut GraphBuilder, layers: &[Linear], x: &Value) -> Result<Value> {
    match layers[0].products {
        Products::Int8 => int8_hidden(builder, layers, x),
        _ => bf16_hidden(builder, layers, x),
    }
}

fn bf16_hidden(builder: &mut GraphBuilder, layers: &[Linear], x: &Value) -> Result<Value> {
    let node = Node::seeward(BF16_HIDDEN, &[x]);
    let node = layers
        .iter()
        .try_fold(node, |node, layer| layer.append_bf16(builder, node))?;
    let node = node.int("outputs", layers[0].outputs(builder)?);
    builder.node("", node, DataType::Bf16)
}

fn int8_hidden(builder: &mut GraphBuilder, layers: &[Linear], x: &Value) -> Result<Value> {
    let weights = layers.iter().map(|layer| Int8Weights::of(builder, layer));
    let weights: Vec<_> = weights.collect::<Result<_>>()?;
    let first = weights.first();
    let first = first.ok_or_else(|| Error::invalid("expected a layer"))?;
    let x = quantized(builder, x)?;
    let node = Node::seeward(INT8_HIDDEN, &[&x, &quantization(&x)?.scales]);
    let node = weights
        .iter()
        .fold(node, |node, layer| layer.append_to(node));
    integers(builder, first.attributes_of(node))
}

/// x [.., inputs] as integers with scales; floats are quantized by a node that is added once and then reused.
fn quantized(builder: &mut GraphBuilder, x: &Value) -> Result<Value> {
    if x.quantization.is_some() {
        return Ok(x.clone());
    }
    builder.converted(x, DataType::U8, |builder| {
        integers(builder, Node::seeward(QUANTIZE_ROWS, &[x]))
    })
}

/// Adds a node that returns integers and their scales.
fn integers(builder: &mut GraphBuilder, node: Node) -> Result<Value> {
    let outputs = builder.nodes(node, &[DataType::U8, WIDE])?;
    let wrong = |_| Error::invalid("expected integers and scales");
    let [integers, scales] = <[Value; 2]>::try_from(outputs).map_err(wrong)?;
    Ok(Value {
        quantization: Some(Rc::new(Quantization { scales })),
        ..integers
    })
}

fn quantization(x: &Value) -> Result<&Quantization> {
    let floats = || Error::invalid(format!("expected integers, got floats: {}", x.name));
    x.quantization.as_deref().ok_or_else(floats)
}
