//! A graph under construction. Node names are the open scopes, a layer's name and the operator; a name is given once: to an
//! input, a constant, a weight or a node's output.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use seeward_models::checkpoint::Checkpoint;
use seeward_models::contract::{Contract, Port};
use seeward_models::{Error, Result};

use super::constant::Constant;
use super::node::Node;
use super::proto::{self, StringPair};
use super::value::Value;
use super::{Graph, data_file};
use crate::data_type::DataType;
use crate::weights::layout::{Part, WeightLayout};
use crate::weights::{Place, Weights};

/// Collects nodes, constants and weights.
pub(crate) struct GraphBuilder {
    graph: Graph,
    names: HashSet<String>,
    scopes: Vec<String>,
    /// The number of nodes by their names without a suffix.
    counts: HashMap<String, usize>,
    /// Converted values, by the original's name and the new element type.
    converted: HashMap<(String, DataType), Value>,
}

impl GraphBuilder {
    /// A graph for the file of that name, with its weights in a data file next to it.
    pub(crate) fn new(file: &'static str, contract: Contract, checkpoint: Rc<Checkpoint>) -> Self {
        let ports = contract.inputs.iter().chain(&contract.outputs);
        Self {
            names: ports.map(|port| port.name.to_owned()).collect(),
            graph: Graph {
                file,
                contract,
                nodes: Vec::new(),
                initializers: Vec::new(),
                weights: Weights::new(checkpoint),
            },
            scopes: Vec::new(),
            counts: HashMap::new(),
            converted: HashMap::new(),
        }
    }

    /// The contract's input of that name.
    ///
    /// # Errors
    /// The contract has no such input.
    pub(crate) fn input(&self, name: &str) -> Result<Value> {
        let port = find(&self.graph.contract.inputs, name)?;
        Ok(Value::new(port.name, port.element.into()))
    }

    /// The complete graph; its only output is `value`.
    ///
    /// # Errors
    /// A contract without exactly one output, or an output of another element type.
    pub(crate) fn finish(mut self, value: &Value) -> Result<Graph> {
        let [port] = &self.graph.contract.outputs[..] else {
            let problem = Error::invalid("expected a contract of one output");
            return Err(problem.at(self.graph.file));
        };
        let name = port.name.to_owned();
        if value.element != port.element.into() {
            let problem = format!("expected {:?}, got {:?}", port.element, value.element);
            return Err(Error::invalid(problem).at(&name));
        }
        let node = Node::new("Identity", &[value]);
        self.push(format!("{name}/Identity"), node, vec![name]);
        Ok(self.graph)
    }

    pub(crate) fn enter(&mut self, scope: &str) {
        self.scopes.push(scope.to_owned());
    }

    pub(crate) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// Adds a node of the layer `at` (empty: of the open scope itself) and returns its only output, of this element
    /// type.
    pub(crate) fn node(&mut self, at: &str, node: Node, element: DataType) -> Result<Value> {
        let name = self.node_name(at, &node);
        self.claim(&name)?;
        self.push(name.clone(), node, vec![name.clone()]);
        Ok(Value::new(name, element))
    }

    /// Adds a node of the open scope and returns its outputs, of these element types.
    pub(crate) fn nodes(&mut self, node: Node, elements: &[DataType]) -> Result<Vec<Value>> {
        let name = self.node_name("", &node);
        let value =
            |(index, &element): (usize, &DataType)| Value::new(format!("{name}:{index}"), element);
        let values: Vec<Value> = elements.iter().enumerate().map(value).collect();
        let outputs: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        outputs.iter().try_for_each(|output| self.claim(output))?;
        self.push(name, node, outputs);
        Ok(values)
    }

    pub(crate) fn i64s(&mut self, values: &[i64]) -> Value {
        self.constant(&Constant::I64(values))
    }

    pub(crate) fn i32s(&mut self, values: &[i32]) -> Value {
        self.constant(&Constant::I32(values))
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) -> Value {
        self.constant(&Constant::F32(values))
    }

    /// A small tensor inside the graph file; equal constants are stored once.
    fn constant(&mut self, values: &Constant) -> Value {
        let value = Value::new(values.name(), values.element());
        if self.names.insert(value.name.clone()) {
            self.graph.initializers.push(proto::Tensor {
                dims: vec![values.len() as i64],
                raw_data: Some(values.bytes()),
                ..initializer(&value)
            });
        }
        value
    }

    /// Rows and columns of a tensor of the checkpoint, relative to the open scopes.
    ///
    /// # Errors
    /// A missing tensor, or one that is not a matrix.
    pub(crate) fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        self.graph.weights.matrix(&self.path(name))
    }

    /// A tensor of the checkpoint, relative to the open scopes, stored in the data file in this element type.
    ///
    /// # Errors
    /// A missing tensor.
    pub(crate) fn weight(&mut self, name: &str, element: DataType) -> Result<Value> {
        let [value] = self.weight_parts(name, WeightLayout::Stored(element))?;
        Ok(value)
    }

    /// The parts of a tensor of the checkpoint in this layout, in the data file.
    ///
    /// # Errors
    /// A missing tensor, or a shape that the layout does not take.
    pub(crate) fn weight_parts<const N: usize>(
        &mut self,
        name: &str,
        layout: WeightLayout,
    ) -> Result<[Value; N]> {
        let tensor = self.path(name);
        let parts = self.graph.weights.parts(&tensor, layout)?;
        let value = |part: &Part| Value::new(part.name(&tensor), part.element);
        let values: Vec<Value> = parts.iter().map(value).collect();
        if let Some(places) = self.graph.weights.place(&tensor, layout)? {
            for ((value, part), place) in values.iter().zip(&parts).zip(places) {
                self.claim(&value.name)?;
                self.push_weight(value, part, &place);
            }
        }
        let wrong = |_| Error::invalid(format!("expected {N} parts")).at(&tensor);
        values.try_into().map_err(wrong)
    }

    /// `x` in another element type; the conversion's node is added once and then reused.
    pub(crate) fn cast(&mut self, at: &str, x: &Value, element: DataType) -> Result<Value> {
        if x.element == element {
            return Ok(x.clone());
        }
        self.converted(x, element, |builder| {
            let node = Node::new("Cast", &[x]).int("to", element as usize);
            builder.node(at, node, element)
        })
    }

    /// The value that `convert` returned at its first call for this value and element type.
    pub(crate) fn converted(
        &mut self,
        x: &Value,
        element: DataType,
        convert: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        let key = (x.name.clone(), element);
        if let Some(known) = self.converted.get(&key) {
            return Ok(known.clone());
        }
        let value = convert(self)?;
        self.converted.insert(key, value.clone());
        Ok(value)
    }

    /// An elementwise operator over two values of one element type.
    pub(crate) fn elementwise(&mut self, op: &str, at: &str, [x, y]: [&Value; 2]) -> Result<Value> {
        if x.element != y.element {
            let (x, y) = (x.element, y.element);
            let problem = format!("expected one element type, got {x:?} and {y:?}");
            return Err(Error::invalid(problem).at(self.path(op)));
        }
        self.node(at, Node::new(op, &[x, y]), x.element)
    }

    fn path(&self, name: &str) -> String {
        let scopes = self.scopes.iter().map(String::as_str);
        let parts: Vec<&str> = scopes
            .chain([name])
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(".")
    }

    /// The second node of the same operator in a layer gets the suffix `_1`.
    fn node_name(&mut self, at: &str, node: &Node) -> String {
        let name = format!("{}/{}", self.path(at), node.0.op_type());
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            n => format!("{name}_{}", n - 1),
        }
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if self.names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(Error::invalid(format!("the name {name} is taken")).at(self.graph.file))
    }

    fn push(&mut self, name: String, node: Node, outputs: Vec<String>) {
        self.graph.nodes.push(proto::Node {
            name: Some(name),
            outputs,
            ..node.0
        });
    }

    fn push_weight(&mut self, value: &Value, part: &Part, place: &Place) {
        let location = data_file(self.graph.file);
        self.graph.initializers.push(proto::Tensor {
            dims: part.dims.iter().map(|&size| size as i64).collect(),
            external_data: vec![
                StringPair::new("location", location),
                StringPair::new("offset", place.offset),
                StringPair::new("length", place.bytes),
            ],
            data_location: Some(proto::Tensor::EXTERNAL),
            ..initializer(value)
        });
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Result<&'a Port> {
    let unknown = || Error::invalid(format!("the contract has no input {name}"));
    ports
        .iter()
        .find(|port| port.name == name)
        .ok_or_else(unknown)
}

fn initializer(value: &Value) -> proto::Tensor {
    proto::Tensor {
        name: Some(value.name.clone()),
        data_type: Some(value.element as i32),
        ..proto::Tensor::default()
    }
}

#[cfg(test)]
mod tests {
    use seeward_models::bundle::REWARD_GRAPH;
    use seeward_models::checkpoint::{TensorData, WEIGHTS_FILE, write_tensors};
    use seeward_models::contract::reward_contract;

    use super::*;

    /// A graph over a checkpoint whose only tensor is `w`, zeros [2, 3].
    fn builder() -> (tempfile::TempDir, GraphBuilder) {
        let folder = tempfile::tempdir().unwrap();
        let tensor = TensorData::f32("w", &[2, 3], &[0.0; 6]);
        write_tensors(&folder.path().join(WEIGHTS_FILE), vec![tensor]).unwrap();
        let checkpoint = Rc::new(Checkpoint::open(folder.path()).unwrap());
        let builder = GraphBuilder::new(REWARD_GRAPH, reward_contract(8, 4), checkpoint);
        (folder, builder)
    }

    #[test]
    fn a_name_is_given_once() {
        let (_folder, mut builder) = builder();
        let ids = builder.input("input_ids").unwrap();
        let mut add = |at| builder.node(at, Node::new("Identity", &[&ids]), DataType::I64);
        let names = ["a", "a", "b"].map(|at| add(at).unwrap().name);
        assert_eq!(names, ["a/Identity", "a/Identity_1", "b/Identity"]);
        for taken in ["a/Identity", "input_ids", "rewards"] {
            let text = builder.claim(taken).unwrap_err().to_string();
            assert_eq!(text, format!("reward.onnx: the name {taken} is taken"));
        }
    }

    #[test]
    fn equal_initializers_are_stored_once() {
        let (_folder, mut builder) = builder();
        let first = builder.i64s(&[0, -1]);
        assert_eq!(builder.i64s(&[0, -1]), first);
        assert_ne!(builder.i32s(&[0, -1]), first);
        let stored = builder.weight("w", DataType::F32).unwrap();
        assert_eq!(builder.weight("w", DataType::F32).unwrap(), stored);
        let layout = WeightLayout::Transposed(DataType::F32);
        let [transposed] = builder.weight_parts("w", layout).unwrap();
        assert_ne!(transposed, stored);
        let initializers = builder.graph.proto().initializers;
        let dims: Vec<_> = initializers.into_iter().map(|t| t.dims).collect();
        assert_eq!(dims, [vec![2], vec![2], vec![2, 3], vec![3, 2]]);
        let graph = &builder.graph;
        assert_eq!((graph.tensors(), graph.weight_bytes()), (2, 48));
    }

    #[test]
    fn inputs_and_output_are_those_of_the_contract() {
        let (_folder, builder) = builder();
        let text = builder.input("pixels").unwrap_err().to_string();
        assert_eq!(text, "the contract has no input pixels");
        let cos = builder.input("rope_cos").unwrap();
        let graph = builder.finish(&cos).unwrap();
        let last = graph.proto().nodes.pop().unwrap();
        assert_eq!(
            (last.inputs, last.outputs),
            (vec!["rope_cos".to_owned()], vec!["rewards".to_owned()])
        );
    }

    #[test]
    fn an_output_of_another_type_is_refused() {
        let (_folder, builder) = builder();
        let ids = builder.input("input_ids").unwrap();
        let text = builder.finish(&ids).err().unwrap().to_string();
        assert_eq!(text, "rewards: expected F32, got I64");
    }
}
