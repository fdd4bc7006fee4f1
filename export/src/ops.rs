//! The network as ONNX nodes: [`seeward_models::net`] run over a graph instead of tensors.

use std::rc::Rc;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::contract::Contract;
use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use seeward_models::net::{Activation, Bias, Ops};
use seeward_models::{Error, Result};

use crate::data_type::DataType;
use crate::graph::Graph;
use crate::graph::builder::GraphBuilder;
use crate::graph::node::Node;
use crate::graph::value::Value;
use crate::lower::attention::{self, TokenMask};
use crate::lower::linear::{self, Linear};
use crate::lower::{Lowering, WIDE, norm, patches, rope};

/// The graph of `network` for the file of that name: its inputs and its only output are those of `contract`, its weights
/// are the tensors of `checkpoint` that `network` names. Nothing is written yet ([`Graph::write`]).
///
/// # Errors
/// Those of `network`, such as a tensor that is missing from the checkpoint; a contract without exactly one output, or an
/// output of another element type.
pub fn build_graph(
    file: &'static str,
    contract: Contract,
    checkpoint: Rc<Checkpoint>,
    lowering: Lowering,
    network: impl FnOnce(&mut GraphOps) -> Result<Value>,
) -> Result<Graph> {
    let mut ops = GraphOps {
        builder: GraphBuilder::new(file, contract, checkpoint),
        lowering,
        rows: Rows::All,
    };
    let output = network(&mut ops)?;
    ops.finish(&output)
}

/// The interpreter that builds a graph while the network runs over it.
pub struct GraphOps {
    builder: GraphBuilder,
    lowering: Lowering,
    /// Set by [`Ops::readout`] for the duration of its scope.
    rows: Rows,
}

/// The rows that the network computes.
#[derive(Clone, Copy)]
enum Rows {
    /// All tokens.
    All,
    /// The few tokens that are read out.
    Readout,
}

impl GraphOps {
    /// The contract's input of that name.
    ///
    /// # Errors
    /// The contract has no such input.
    pub fn input(&self, name: &str) -> Result<Value> {
        self.builder.input(name)
    }

    /// The graph, whose output is `value`.
    fn finish(mut self, value: &Value) -> Result<Graph> {
        let value = match value.element {
            DataType::F16 | DataType::Bf16 => self.builder.cast("", value, WIDE)?,
            _ => value.clone(),
        };
        self.builder.finish(&value)
    }

    /// The linear layer of that name over the current rows.
    fn layer<'a>(&self, name: &'a str, bias: Bias) -> Linear<'a> {
        let products = match self.rows {
            Rows::All => self.lowering.linear(name),
            Rows::Readout => self.lowering.linear_of_readout(name),
        };
        Linear {
            name,
            bias,
            products,
        }
    }

    /// An elementwise operator over `x` and a parameter, which is wide in every precision.
    fn with_parameter(&mut self, op: &str, name: &str, x: &Value) -> Result<Value> {
        let parameter = self.builder.weight(name, WIDE)?;
        let x = self.builder.cast(name, x, WIDE)?;
        self.builder.elementwise(op, name, [&x, &parameter])
    }
}

impl Ops for GraphOps {
    type T = Value;
    type Mask = TokenMask;
    /// Cosines and sines [rows, tokens, head/2].
    type Rope = (Value, Value);

    fn enter(&mut self, scope: &str) {
        self.builder.enter(scope);
    }

    fn leave(&mut self) {
        self.builder.leave();
    }

    fn embedding(&mut self, name: &str, ids: &Value) -> Result<Value> {
        let element = self.lowering.table();
        let table = self.builder.weight(&format!("{name}.weight"), element)?;
        let node = Node::new("Gather", &[&table, ids]);
        let rows = self.builder.node(name, node, element)?;
        self.builder.cast(name, &rows, WIDE)
    }

    fn linear(&mut self, name: &str, x: &Value, bias: Bias) -> Result<Value> {
        self.layer(name, bias).apply(&mut self.builder, x)
    }

    fn gelu_linear(&mut self, name: &str, x: &Value, bias: Bias) -> Result<Value> {
        let layer = self.layer(name, bias);
        if layer.products.fuses_hidden() {
            return linear::hidden(&mut self.builder, &[layer], x);
        }
        let x = self.linear(name, x, bias)?;
        self.activation(Activation::Gelu, &x)
    }

    fn gated_linear(&mut self, names: [&str; 2], x: &Value, bias: Bias) -> Result<Value> {
        let layers = names.map(|name| self.layer(name, bias));
        if layers[0].products.fuses_hidden() {
            return linear::hidden(&mut self.builder, &layers, x);
        }
        let [gate, x] = names.map(|name| self.linear(name, x, bias));
        self.gated(&gate?, &x?)
    }

    fn layer_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        norm::layer(&mut self.builder, name, x, epsilon)
    }

    fn rms_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        norm::rms(&mut self.builder, name, x, epsilon)
    }

    fn rms_norm_heads(
        &mut self,
        name: &str,
        x: &Value,
        heads: usize,
        epsilon: f64,
    ) -> Result<Value> {
        let split = self.builder.reshape(x, &[0, 0, heads as i64, -1])?;
        let normed = norm::rms(&mut self.builder, name, &split, epsilon)?;
        let joined = self.builder.reshape(&normed, &[0, 0, -1])?;
        // Rotation and products are as narrow as the projections.
        self.builder.cast(name, &joined, x.element)
    }

    fn patch_embedding(
        &mut self,
        name: &str,
        pixels: &Value,
        patch: usize,
        n: Normalization,
    ) -> Result<Value> {
        patches::embedding(&mut self.builder, name, pixels, patch, n)
    }

    fn patch_projection(
        &mut self,
        name: &str,
        patches: &Value,
        bias: Bias,
        n: Normalization,
    ) -> Result<Value> {
        patches::projection(&mut self.builder, name, patches, bias, n)
    }

    fn embedding_sum(&mut self, name: &str, ids: &Value, weights: &Value) -> Result<Value> {
        let builder = &mut self.builder;
        let table = builder.weight(&format!("{name}.weight"), WIDE)?;
        let rows = builder.node(name, Node::new("Gather", &[&table, ids]), WIDE)?;
        let weights = builder.unsqueeze(weights, -1)?;
        let weighted = builder.elementwise("Mul", name, [&rows, &weights])?;
        builder.sum(name, &weighted, 2)
    }

    fn prepend_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        patches::prepend(&mut self.builder, name, x)
    }

    fn add_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        self.with_parameter("Add", name, x)
    }

    fn mul_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        self.with_parameter("Mul", name, x)
    }

    fn activation(&mut self, kind: Activation, x: &Value) -> Result<Value> {
        match kind {
            Activation::Gelu => self.builder.node("", Node::new("Gelu", &[x]), x.element),
            Activation::GeluTanh => {
                let node = Node::new("Gelu", &[x]).text("approximate", "tanh");
                self.builder.node("", node, x.element)
            }
            Activation::QuickGelu => {
                let slope = self.builder.f32s(&[1.702]);
                let slope = self.builder.cast("", &slope, x.element)?;
                let steeper = self.mul(x, &slope)?;
                let node = Node::new("Sigmoid", &[&steeper]);
                let gate = self.builder.node("", node, x.element)?;
                self.mul(x, &gate)
            }
            Activation::Relu => self.builder.node("", Node::new("Relu", &[x]), x.element),
            Activation::Tanh => self.builder.node("", Node::new("Tanh", &[x]), x.element),
            Activation::Silu => {
                let gate = self
                    .builder
                    .node("", Node::new("Sigmoid", &[x]), x.element)?;
                self.mul(x, &gate)
            }
        }
    }

    fn add(&mut self, x: &Value, y: &Value) -> Result<Value> {
        let (x, y) = (
            self.builder.cast("", x, WIDE)?,
            self.builder.cast("", y, WIDE)?,
        );
        self.builder.elementwise("Add", "", [&x, &y])
    }

    fn mul(&mut self, x: &Value, y: &Value) -> Result<Value> {
        self.builder.elementwise("Mul", "", [x, y])
    }

    fn split(&mut self, x: &Value, groups: usize, sizes: &[usize]) -> Result<Vec<Value>> {
        let lengths: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
        let run = lengths.iter().sum();
        let grouped = if groups == 1 {
            x.clone()
        } else {
            self.builder.reshape(x, &[0, 0, groups as i64, run])?
        };
        let lengths = self.builder.i64s(&lengths);
        let cut = Node::new("Split", &[&grouped, &lengths]).axis(-1);
        let parts = self.builder.nodes(cut, &vec![x.element; sizes.len()])?;
        if groups == 1 {
            return Ok(parts);
        }
        parts
            .iter()
            .map(|part| self.builder.reshape(part, &[0, 0, -1]))
            .collect()
    }

    fn concatenate(&mut self, parts: &[Value]) -> Result<Value> {
        match parts {
            [one] => Ok(one.clone()),
            [first, ..] => {
                let inputs: Vec<&Value> = parts.iter().collect();
                let node = Node::new("Concat", &inputs).axis(-1);
                self.builder.node("", node, first.element)
            }
            [] => Err(Error::invalid("expected values to put side by side")),
        }
    }

    fn merge_tokens(&mut self, x: &Value, count: usize, width: usize) -> Result<Value> {
        self.builder.reshape(x, &[0, -1, (count * width) as i64])
    }

    fn skip_tokens(&mut self, x: &Value, count: usize) -> Result<Value> {
        let [start, end, axis] =
            [count as i64, i64::MAX, 1].map(|value| self.builder.i64s(&[value]));
        self.builder
            .node("", Node::new("Slice", &[x, &start, &end, &axis]), x.element)
    }

    fn pixel_shuffle(
        &mut self,
        x: &Value,
        side: usize,
        window: usize,
        order: TokenOrder,
    ) -> Result<Value> {
        patches::pixel_shuffle(&mut self.builder, x, side, window, order)
    }

    fn squeeze_last(&mut self, x: &Value) -> Result<Value> {
        let axis = self.builder.i64s(&[-1]);
        self.builder
            .node("", Node::new("Squeeze", &[x, &axis]), x.element)
    }

    fn scatter_rows(&mut self, x: &Value, source: &Value, at: &Value) -> Result<Value> {
        let source = self.builder.cast("", source, x.element)?;
        let rows = self.builder.rows(x)?;
        let at = self.builder.unsqueeze(at, 1)?;
        let node = Node::new("ScatterND", &[&rows, &at, &source]);
        let placed = self.builder.node("", node, x.element)?;
        self.builder.shaped_like(&placed, x)
    }

    fn gather_rows(&mut self, x: &Value, at: &Value) -> Result<Value> {
        let rows = self.builder.rows(x)?;
        self.builder
            .node("", Node::new("Gather", &[&rows, at]), x.element)
    }

    fn tree_mask(&mut self, documents: &Value, branches: &Value) -> Result<TokenMask> {
        attention::tree_mask(
            &mut self.builder,
            self.lowering.attention(),
            documents,
            branches,
        )
    }

    fn window_mask(&mut self, windows: &Value) -> Result<TokenMask> {
        attention::window_mask(&mut self.builder, self.lowering.attention(), windows)
    }

    fn rope_table(&mut self, cos: &Value, sin: &Value, positions: &Value) -> Result<Self::Rope> {
        rope::table(&mut self.builder, cos, sin, positions)
    }

    fn rope(&mut self, x: &Value, table: &Self::Rope, heads: usize) -> Result<Value> {
        rope::rotate(&mut self.builder, x, table, heads)
    }

    fn attention(
        &mut self,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&TokenMask>,
        heads: (usize, usize),
    ) -> Result<Value> {
        let kind = self.lowering.attention();
        attention::attend(&mut self.builder, kind, [q, k, v], mask, heads)
    }

    fn readout<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let outer = std::mem::replace(&mut self.rows, Rows::Readout);
        let result = f(self);
        self.rows = outer;
        result
    }
}

#[cfg(test)]
mod tests {
    use seeward_models::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};
    use seeward_models::contract::{Dim, Element, Port};
    use seeward_models::kinds::{Precision, Target};

    use super::*;

    fn port(name: &'static str, element: Element, dims: &[&'static str]) -> Port {
        Port {
            name,
            element,
            dims: dims.iter().map(|&name| Dim::Free(name)).collect(),
        }
    }

    /// A network for the CPU over the layers `a` and `b`; it picks rows before its first layer.
    fn graph(
        precision: Precision,
        network: impl FnOnce(&mut GraphOps, &Value) -> Result<Value>,
    ) -> Graph {
        let folder = tempfile::tempdir().unwrap();
        let weight = |name| TensorData::f32(name, &[4, 4], &[0.5; 16]);
        let weights = ["a.weight", "b.weight"].map(weight);
        write_tensors(&folder.path().join(WEIGHTS_FILE), weights.into()).unwrap();
        let checkpoint = Rc::new(Checkpoint::open(folder.path()).unwrap());
        let contract = Contract {
            inputs: vec![
                port("x", Element::F32, &["rows", "tokens", "width"]),
                port("at", Element::I64, &["k"]),
            ],
            outputs: vec![port("y", Element::F32, &["k", "width"])],
        };
        let lowering = Lowering::new(Target::Cpu, precision).unwrap();
        let graph = build_graph("case.onnx", contract, checkpoint, lowering, |ops| {
            let (x, at) = (ops.input("x")?, ops.input("at")?);
            let picked = ops.gather_rows(&x, &at)?;
            network(ops, &picked)
        });
        graph.unwrap()
    }

    #[test]
    fn layers_after_picked_rows_stay_narrow() {
        for (precision, layers) in [
            (
                Precision::Int8,
                &["QuantizeRows", "Int8Hidden", "Int8Linear"][..],
            ),
            (Precision::Bf16, &["Bf16Hidden", "Bf16Linear"]),
        ] {
            let graph = graph(precision, |ops, x| {
                let x = ops.gelu_linear("a", x, Bias::No)?;
                ops.linear("b", &x, Bias::No)
            });
            let expected = [&["Flatten", "Gather"], layers, &["Identity"]].concat();
            assert_eq!(graph.operators(), expected);
        }
    }

    #[test]
    fn layers_of_a_readout_are_floats_and_those_after_it_are_not() {
        for (precision, layer) in [
            (Precision::Int8, &["QuantizeRows", "Int8Linear"][..]),
            (Precision::Bf16, &["Bf16Linear"]),
        ] {
            let graph = graph(precision, |ops, x| {
                let x = ops.readout(|ops| ops.gelu_linear("a", x, Bias::No))?;
                ops.linear("b", &x, Bias::No)
            });
            let readout = ["Flatten", "Gather", "MatMul", "Gelu"];
            assert_eq!(graph.operators(), [&readout, layer, &["Identity"]].concat());
        }
    }

    #[test]
    fn a_readout_ends_with_an_error_too() {
        let graph = graph(Precision::Int8, |ops, x| {
            ops.readout(|ops| ops.linear("missing", x, Bias::No))
                .unwrap_err();
            ops.linear("b", x, Bias::No)
        });
        assert!(graph.operators().contains(&"Int8Linear"));
    }
}
