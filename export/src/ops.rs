//! The network as ONNX nodes: [`seeward_models::net`] written over a graph instead of tensors. Shapes stay free: a
//! reshape copies the leading axes (0) and leaves the last one open (-1).

use std::collections::{HashMap, HashSet};

use seeward_models::image::Normalization;
use seeward_models::kinds::TokenOrder;
use seeward_models::net::{Activation, Bias, Ops};
use seeward_models::{Error, Result};

use crate::constant::Constant;
use crate::form::Form;
use crate::graph::{Graph, Node, Value};
use crate::lower::attention::TreeMask;
use crate::lower::linear::{self, Products, QuantizedRows, Range};
use crate::lower::{Lowering, WIDE, attention, norm, patches, rope};
use crate::proto::DataType;

/// The interpreter that builds a graph while the network runs over it. Node names are the open scopes and the operator.
pub struct GraphOps {
    graph: Graph,
    lowering: Lowering,
    scopes: Vec<String>,
    named: HashMap<String, usize>,
    /// What was cast already, by its name and the type it became.
    casts: HashMap<(String, DataType), Value>,
    /// What was quantized already, by its name.
    quantized: HashMap<String, QuantizedRows>,
    /// What came out of a GELU, by its name: nothing of it is far below zero.
    gelus: HashSet<String>,
    /// Whether only the rows that are read are left.
    gathered: bool,
}

impl GraphOps {
    pub(crate) fn new(graph: Graph, lowering: Lowering) -> Self {
        Self {
            graph,
            lowering,
            scopes: Vec::new(),
            named: HashMap::new(),
            casts: HashMap::new(),
            quantized: HashMap::new(),
            gelus: HashSet::new(),
            gathered: false,
        }
    }

    /// The contract's input of that name.
    ///
    /// # Errors
    /// The contract has none.
    pub fn input(&self, name: &str) -> Result<Value> {
        self.graph.input(name)
    }

    /// The graph, whose output is `value`.
    pub(crate) fn finish(mut self, value: &Value) -> Result<Graph> {
        let value = match value.element {
            DataType::F16 | DataType::Bf16 => self.cast("", value, WIDE)?,
            _ => value.clone(),
        };
        self.graph.finish(&value)?;
        Ok(self.graph)
    }

    pub(crate) fn lowering(&self) -> Lowering {
        self.lowering
    }

    /// The one output, of this element type, of a node of the layer `at` (empty: of the open scope itself).
    pub(crate) fn node(&mut self, at: &str, node: Node, element: DataType) -> Result<Value> {
        let name = self.node_name(at, node.op);
        Ok(self.graph.node(name, node, &[element])?.remove(0))
    }

    /// As [`Self::node`], with several outputs.
    pub(crate) fn nodes(&mut self, node: Node, elements: &[DataType]) -> Result<Vec<Value>> {
        let name = self.node_name("", node.op);
        self.graph.node(name, node, elements)
    }

    /// A tensor of the checkpoint in this form.
    pub(crate) fn weight(&mut self, name: &str, form: Form) -> Result<Value> {
        let tensor = self.path(name);
        self.graph.weight(&tensor, form)
    }

    /// Rows and columns of a tensor of the checkpoint.
    pub(crate) fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        self.graph.matrix(&self.path(name))
    }

    /// A tensor that is wide in every precision.
    pub(crate) fn parameter(&mut self, name: &str) -> Result<Value> {
        self.weight(name, Form::Stored(WIDE))
    }

    pub(crate) fn i64s(&mut self, values: &[i64]) -> Value {
        self.graph.constant(Constant::I64(values))
    }

    pub(crate) fn i32s(&mut self, values: &[i32]) -> Value {
        self.graph.constant(Constant::I32(values))
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) -> Value {
        self.graph.constant(Constant::F32(values))
    }

    /// The same numbers as another element type, by one node however often they are asked for.
    pub(crate) fn cast(&mut self, at: &str, x: &Value, element: DataType) -> Result<Value> {
        if x.element == element {
            return Ok(x.clone());
        }
        let key = (x.name.clone(), element);
        if let Some(known) = self.casts.get(&key) {
            return Ok(known.clone());
        }
        let node = Node::new("Cast", &[x]).int("to", element as usize);
        let cast = self.node(at, node, element)?;
        self.casts.insert(key, cast.clone());
        Ok(cast)
    }

    /// How the linear layer of that name is computed now.
    pub(crate) fn products(&self, name: &str) -> Products {
        match self.gathered {
            true => self.lowering.linear_of_few(name),
            false => self.lowering.linear(name),
        }
    }

    /// x in integers, by the same nodes however often it is asked for.
    pub(crate) fn quantized(&mut self, x: &Value) -> Result<QuantizedRows> {
        if let Some(known) = self.quantized.get(&x.name) {
            return Ok(known.clone());
        }
        let range = match self.gelus.contains(&x.name) {
            true => Range::GELU,
            false => Range::EVEN,
        };
        let rows = linear::quantize(self, x, range)?;
        self.quantized.insert(x.name.clone(), rows.clone());
        Ok(rows)
    }

    /// The value of numbers that there are as integers only: for linear layers of integers.
    pub(crate) fn integers(&mut self, rows: QuantizedRows) -> Value {
        let value = rows.integers.clone();
        self.quantized.insert(value.name.clone(), rows);
        value
    }

    /// 0 keeps an axis of `x`, -1 is what remains.
    pub(crate) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Result<Value> {
        let shape = self.i64s(shape);
        self.node("", Node::new("Reshape", &[x, &shape]), x.element)
    }

    /// A new axis of one at `axis`.
    pub(crate) fn unsqueeze(&mut self, x: &Value, axis: i64) -> Result<Value> {
        let axis = self.i64s(&[axis]);
        self.node("", Node::new("Unsqueeze", &[x, &axis]), x.element)
    }

    pub(crate) fn transpose(&mut self, x: &Value, order: &[usize]) -> Result<Value> {
        self.node(
            "",
            Node::new("Transpose", &[x]).ints("perm", order),
            x.element,
        )
    }

    /// The numbers of `x` in the dimensions of `other`.
    pub(crate) fn shaped_like(&mut self, x: &Value, other: &Value) -> Result<Value> {
        let shape = self.node("", Node::new("Shape", &[other]), DataType::I64)?;
        self.node("", Node::new("Reshape", &[x, &shape]), x.element)
    }

    /// [.., width] → [rows, width].
    pub(crate) fn rows(&mut self, x: &Value) -> Result<Value> {
        self.node("", Node::new("Flatten", &[x]).axis(-1), x.element)
    }

    /// Elementwise, in x's element type.
    pub(crate) fn both(
        &mut self,
        op: &'static str,
        at: &str,
        x: &Value,
        y: &Value,
    ) -> Result<Value> {
        if x.element != y.element {
            let problem = format!(
                "expected one element type, got {:?} and {:?}",
                x.element, y.element
            );
            return Err(Error::invalid(problem).at(self.path(op)));
        }
        self.node(at, Node::new(op, &[x, y]), x.element)
    }

    fn with_parameter(&mut self, op: &'static str, name: &str, x: &Value) -> Result<Value> {
        let parameter = self.parameter(name)?;
        let x = self.cast(name, x, parameter.element)?;
        self.both(op, name, &x, &parameter)
    }

    fn path(&self, name: &str) -> String {
        let scopes = self.scopes.iter().map(String::as_str);
        let parts: Vec<&str> = scopes
            .chain([name])
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(".")
    }

    /// The second node of a kind at one place is `…_1`.
    fn node_name(&mut self, at: &str, op: &str) -> String {
        let name = format!("{}/{op}", self.path(at));
        let count = self.named.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            n => format!("{name}_{}", n - 1),
        }
    }
}

impl Ops for GraphOps {
    type T = Value;
    type Mask = TreeMask;
    /// Cosines and sines [rows, tokens, head/2].
    type Rope = (Value, Value);

    fn enter(&mut self, scope: &str) {
        self.scopes.push(scope.to_owned());
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn embedding(&mut self, name: &str, ids: &Value) -> Result<Value> {
        let element = self.lowering.table();
        let table = self.weight(&format!("{name}.weight"), Form::Stored(element))?;
        let rows = self.node(name, Node::new("Gather", &[&table, ids]), element)?;
        self.cast(name, &rows, WIDE)
    }

    fn linear(&mut self, name: &str, x: &Value, bias: Bias) -> Result<Value> {
        linear::layer(self, name, x, bias)
    }

    fn gelu_linear(&mut self, name: &str, x: &Value, bias: Bias) -> Result<Value> {
        if self.products(name) == Products::Int8 {
            return linear::hidden(self, &[name], x, bias, Range::GELU);
        }
        let x = self.linear(name, x, bias)?;
        self.activation(Activation::Gelu, &x)
    }

    fn gated_linear(&mut self, names: [&str; 2], x: &Value, bias: Bias) -> Result<Value> {
        if self.products(names[0]) == Products::Int8 {
            return linear::hidden(self, &names, x, bias, Range::EVEN);
        }
        let [gate, x] = names.map(|name| self.linear(name, x, bias));
        self.gated(&gate?, &x?)
    }

    fn layer_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        norm::layer(self, name, x, epsilon)
    }

    fn rms_norm(&mut self, name: &str, x: &Value, epsilon: f64) -> Result<Value> {
        norm::rms(self, name, x, epsilon)
    }

    fn patch_embedding(
        &mut self,
        name: &str,
        pixels: &Value,
        patch: usize,
        n: Normalization,
    ) -> Result<Value> {
        patches::embedding(self, name, pixels, patch, n)
    }

    fn prepend_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        patches::prepend(self, name, x)
    }

    fn add_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        self.with_parameter("Add", name, x)
    }

    fn mul_parameter(&mut self, name: &str, x: &Value) -> Result<Value> {
        self.with_parameter("Mul", name, x)
    }

    fn activation(&mut self, kind: Activation, x: &Value) -> Result<Value> {
        match kind {
            Activation::Gelu => {
                let y = self.node("", Node::new("Gelu", &[x]), x.element)?;
                self.gelus.insert(y.name.clone());
                Ok(y)
            }
            Activation::Silu => {
                let gate = self.node("", Node::new("Sigmoid", &[x]), x.element)?;
                self.mul(x, &gate)
            }
        }
    }

    fn add(&mut self, x: &Value, y: &Value) -> Result<Value> {
        let (x, y) = (self.cast("", x, WIDE)?, self.cast("", y, WIDE)?);
        self.both("Add", "", &x, &y)
    }

    fn mul(&mut self, x: &Value, y: &Value) -> Result<Value> {
        self.both("Mul", "", x, y)
    }

    fn split(&mut self, x: &Value, groups: usize, sizes: &[usize]) -> Result<Vec<Value>> {
        let lengths: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
        let run = lengths.iter().sum();
        let grouped = if groups == 1 {
            x.clone()
        } else {
            self.reshape(x, &[0, 0, groups as i64, run])?
        };
        let lengths = self.i64s(&lengths);
        let cut = Node::new("Split", &[&grouped, &lengths]).axis(-1);
        let parts = self.nodes(cut, &vec![x.element; sizes.len()])?;
        if groups == 1 {
            return Ok(parts);
        }
        parts
            .iter()
            .map(|part| self.reshape(part, &[0, 0, -1]))
            .collect()
    }

    fn skip_tokens(&mut self, x: &Value, count: usize) -> Result<Value> {
        let [start, end, axis] = [count as i64, i64::MAX, 1].map(|number| self.i64s(&[number]));
        self.node("", Node::new("Slice", &[x, &start, &end, &axis]), x.element)
    }

    fn pixel_shuffle(
        &mut self,
        x: &Value,
        side: usize,
        window: usize,
        order: TokenOrder,
    ) -> Result<Value> {
        patches::pixel_shuffle(self, x, side, window, order)
    }

    fn squeeze_last(&mut self, x: &Value) -> Result<Value> {
        let axis = self.i64s(&[-1]);
        self.node("", Node::new("Squeeze", &[x, &axis]), x.element)
    }

    fn scatter_rows(&mut self, x: &Value, source: &Value, at: &Value) -> Result<Value> {
        let source = self.cast("", source, x.element)?;
        let rows = self.rows(x)?;
        let at = self.unsqueeze(at, 1)?;
        let placed = self.node(
            "",
            Node::new("ScatterND", &[&rows, &at, &source]),
            x.element,
        )?;
        self.shaped_like(&placed, x)
    }

    fn gather_rows(&mut self, x: &Value, at: &Value) -> Result<Value> {
        self.gathered = true;
        let rows = self.rows(x)?;
        self.node("", Node::new("Gather", &[&rows, at]), x.element)
    }

    fn tree_mask(&mut self, documents: &Value, branches: &Value) -> Result<TreeMask> {
        attention::tree_mask(self, documents, branches)
    }

    fn rope_table(&mut self, cos: &Value, sin: &Value, positions: &Value) -> Result<Self::Rope> {
        rope::table(self, cos, sin, positions)
    }

    fn rope(&mut self, x: &Value, table: &Self::Rope, heads: usize) -> Result<Value> {
        rope::rotate(self, x, table, heads)
    }

    fn attention(
        &mut self,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&TreeMask>,
        heads: (usize, usize),
    ) -> Result<Value> {
        attention::attend(self, [q, k, v], mask, heads)
    }
}
