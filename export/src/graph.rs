//! One ONNX graph in the making: inputs and outputs from its contract, nodes, constants, and weights in a file beside.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use prost::Message;
use seeward_models::checkpoint::Checkpoint;
use seeward_models::contract::{Contract, OPERATORS, Port};
use seeward_models::{Error, Result};

use crate::constant::Constant;
use crate::form::{self, Form};
use crate::proto::{self, Attribute, DataType, StringPair};
use crate::weights::Weights;

/// The operator set of every node; the first with `Attention`, `RotaryEmbedding` and `RMSNormalization`.
pub(crate) const OPSET: u32 = 23;
/// The file format that came with it.
const IR_VERSION: i64 = 11;
const PRODUCER: &str = "seeward";
/// The domain of ONNX's own operators.
const STANDARD: &str = "";
/// The domain of ONNX Runtime's operators, of which there is one version.
const MICROSOFT: &str = "com.microsoft";

/// What flows along an edge of a graph: a name and an element type, no shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub(crate) name: String,
    pub(crate) element: DataType,
}

/// In the place of an input that an operator can do without: the empty name, of no type.
static ABSENT: Value = Value {
    name: String::new(),
    element: DataType::F32,
};

/// An operator with its inputs and attributes, not yet in a graph.
pub(crate) struct Node<'a> {
    pub(crate) op: &'static str,
    domain: &'static str,
    inputs: Vec<&'a Value>,
    attributes: Vec<Attribute>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(op: &'static str, inputs: &[&'a Value]) -> Self {
        Self {
            op,
            domain: STANDARD,
            inputs: inputs.to_vec(),
            attributes: Vec::new(),
        }
    }

    /// An operator of ONNX Runtime's own.
    pub(crate) fn microsoft(op: &'static str, inputs: &[&'a Value]) -> Self {
        Self {
            domain: MICROSOFT,
            ..Self::new(op, inputs)
        }
    }

    /// An operator of our runtime's.
    pub(crate) fn ours(op: &'static str, inputs: &[&'a Value]) -> Self {
        Self {
            domain: OPERATORS,
            ..Self::new(op, inputs)
        }
    }

    pub(crate) fn input(mut self, value: Option<&'a Value>) -> Self {
        self.inputs.extend(value);
        self
    }

    /// Leaves out so many of the inputs that may be absent.
    pub(crate) fn without(mut self, count: usize) -> Self {
        self.inputs.extend(std::iter::repeat_n(&ABSENT, count));
        self
    }

    pub(crate) fn int(self, name: &str, value: usize) -> Self {
        self.with(Attribute::int(name, value as i64))
    }

    pub(crate) fn axis(self, axis: i64) -> Self {
        self.with(Attribute::int("axis", axis))
    }

    pub(crate) fn float(self, name: &str, value: f64) -> Self {
        self.with(Attribute::float(name, value as f32))
    }

    pub(crate) fn ints(self, name: &str, values: &[usize]) -> Self {
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        self.with(Attribute::ints(name, &values))
    }

    fn with(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }
}

/// An ONNX graph, made by [`crate::build_graph`], with what it takes to write its weights. A name is given once: to an
/// input, a constant, a weight or a node's output.
pub struct Graph {
    file: &'static str,
    contract: Contract,
    nodes: Vec<proto::Node>,
    initializers: Vec<proto::Tensor>,
    names: HashSet<String>,
    weights: Weights,
}

impl Graph {
    /// A graph for the file of that name, its weights beside it.
    pub(crate) fn new(file: &'static str, contract: Contract, checkpoint: Rc<Checkpoint>) -> Self {
        let ports = contract.inputs.iter().chain(&contract.outputs);
        Self {
            file,
            names: ports.map(|port| port.name.to_owned()).collect(),
            contract,
            nodes: Vec::new(),
            initializers: Vec::new(),
            weights: Weights::new(checkpoint),
        }
    }

    /// The input of that name.
    pub(crate) fn input(&self, name: &str) -> Result<Value> {
        let port = find(&self.contract.inputs, name)?;
        Ok(Value {
            name: port.name.to_owned(),
            element: port.element.into(),
        })
    }

    /// Adds a node and returns its outputs, which have these element types.
    pub(crate) fn node(
        &mut self,
        name: String,
        node: Node,
        elements: &[DataType],
    ) -> Result<Vec<Value>> {
        let output = |index: usize| match elements.len() {
            1 => name.clone(),
            _ => format!("{name}:{index}"),
        };
        let outputs: Vec<String> = (0..elements.len()).map(output).collect();
        outputs.iter().try_for_each(|output| self.claim(output))?;
        let value = |(name, &element): (&String, &DataType)| Value {
            name: name.clone(),
            element,
        };
        let values = outputs.iter().zip(elements).map(value).collect();
        self.push(name, node, outputs);
        Ok(values)
    }

    /// A small tensor inside the graph file; equal ones are one.
    pub(crate) fn constant(&mut self, values: Constant) -> Value {
        let value = Value {
            name: values.name(),
            element: values.element(),
        };
        if self.names.insert(value.name.clone()) {
            self.initializers.push(proto::Tensor {
                dims: vec![values.len() as i64],
                raw_data: Some(values.bytes()),
                ..tensor(&value)
            });
        }
        value
    }

    /// Rows and columns of a tensor of the checkpoint.
    pub(crate) fn matrix(&self, tensor_name: &str) -> Result<[usize; 2]> {
        form::matrix(
            &self
                .weights
                .dims(tensor_name, Form::Stored(DataType::F32))?,
        )
    }

    /// A tensor of the checkpoint, in the data file.
    pub(crate) fn weight(&mut self, tensor_name: &str, form: Form) -> Result<Value> {
        let value = Value {
            name: form.name(tensor_name),
            element: form.element(),
        };
        let dims = self.weights.dims(tensor_name, form)?;
        let location = self.data_file();
        if let Some(place) = self.weights.place(tensor_name, form)? {
            self.initializers.push(proto::Tensor {
                dims: dims.iter().map(|&size| size as i64).collect(),
                external_data: vec![
                    StringPair::new("location", location),
                    StringPair::new("offset", place.offset),
                    StringPair::new("length", place.bytes),
                ],
                data_location: Some(proto::Tensor::EXTERNAL),
                ..tensor(&value)
            });
            self.claim(&value.name)?;
        }
        Ok(value)
    }

    /// Gives `value` the name of the contract's only output.
    pub(crate) fn finish(&mut self, value: &Value) -> Result<()> {
        let [port] = &self.contract.outputs[..] else {
            return Err(Error::invalid("expected a contract of one output").at(self.file));
        };
        let name = port.name.to_owned();
        if value.element != port.element.into() {
            let problem = format!("expected {:?}, got {:?}", port.element, value.element);
            return Err(Error::invalid(problem).at(&name));
        }
        self.push(
            format!("{name}/Identity"),
            Node::new("Identity", &[value]),
            vec![name],
        );
        Ok(())
    }

    /// Number and bytes of the weights.
    pub(crate) fn weights(&self) -> (usize, u64) {
        (self.weights.len(), self.weights.bytes())
    }

    /// Writes the graph and, in `{file}.data`, its weights into `folder`; `wrote` hears of the bytes of every piece of
    /// weights. Returns that file's name and sha256.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, a number that leaves the range of the graph's precision, or a folder that cannot
    /// be written.
    pub fn write(&self, folder: &Path, wrote: &mut dyn FnMut(u64)) -> Result<(String, String)> {
        let path = folder.join(self.file);
        std::fs::write(&path, self.model().encode_to_vec()).map_err(|e| Error::io(&path, e))?;
        let data = self.data_file();
        let hash = self.weights.write(&folder.join(&data), wrote)?;
        Ok((data, hash))
    }

    fn model(&self) -> proto::Model {
        proto::Model {
            ir_version: Some(IR_VERSION),
            producer_name: Some(PRODUCER.to_owned()),
            graph: Some(self.graph()),
            opset_import: self.operator_sets(),
        }
    }

    /// Those whose operators are used.
    fn operator_sets(&self) -> Vec<proto::OperatorSet> {
        let set = |domain: &str, version| proto::OperatorSet {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let used = |domain: &str| self.nodes.iter().any(|n| n.domain() == domain);
        let others = [MICROSOFT, OPERATORS]
            .into_iter()
            .filter(|domain| used(domain));
        [set(STANDARD, i64::from(OPSET))]
            .into_iter()
            .chain(others.map(|domain| set(domain, 1)))
            .collect()
    }

    fn graph(&self) -> proto::Graph {
        proto::Graph {
            nodes: self.nodes.clone(),
            name: Some(self.file.trim_end_matches(".onnx").to_owned()),
            initializers: self.initializers.clone(),
            inputs: self.contract.inputs.iter().map(Into::into).collect(),
            outputs: self.contract.outputs.iter().map(Into::into).collect(),
        }
    }

    fn data_file(&self) -> String {
        format!("{}.data", self.file)
    }

    fn push(&mut self, name: String, node: Node, outputs: Vec<String>) {
        self.nodes.push(proto::Node {
            inputs: node.inputs.iter().map(|input| input.name.clone()).collect(),
            outputs,
            name: Some(name),
            op_type: Some(node.op.to_owned()),
            attributes: node.attributes,
            domain: Some(node.domain.to_owned()),
        });
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if self.names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(Error::invalid(format!("the name {name} is taken")).at(self.file))
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Result<&'a Port> {
    let unknown = || Error::invalid(format!("the contract has no input {name}"));
    ports
        .iter()
        .find(|port| port.name == name)
        .ok_or_else(unknown)
}

fn tensor(value: &Value) -> proto::Tensor {
    proto::Tensor {
        name: Some(value.name.clone()),
        data_type: Some(value.element as i32),
        ..proto::Tensor::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::borrow::Cow;

    use seeward_models::bundle::REWARD_GRAPH;
    use seeward_models::checkpoint::{Dtype, TensorData, WEIGHTS_FILE, write_tensors};
    use seeward_models::contract::reward_contract;

    use super::*;

    /// A graph over a checkpoint whose only tensor is `w`, zeros [2, 3].
    fn graph() -> (tempfile::TempDir, Graph) {
        let folder = tempfile::tempdir().unwrap();
        let tensor = TensorData {
            name: "w".to_owned(),
            dtype: Dtype::F32,
            shape: vec![2, 3],
            bytes: Box::new(|| Cow::Owned(vec![0; 24])),
        };
        write_tensors(&folder.path().join(WEIGHTS_FILE), vec![tensor]).unwrap();
        let checkpoint = Rc::new(Checkpoint::open(folder.path()).unwrap());
        (
            folder,
            Graph::new(REWARD_GRAPH, reward_contract(8, 4), checkpoint),
        )
    }

    #[test]
    fn a_name_is_given_once() {
        let (_folder, mut graph) = graph();
        let ids = graph.input("input_ids").unwrap();
        let mut add = |name: &str| {
            let node = Node::new("Identity", &[&ids]);
            graph.node(name.to_owned(), node, &[DataType::I64])
        };
        assert_eq!(add("a").unwrap()[0].name, "a");
        for taken in ["a", "input_ids", "rewards"] {
            let text = add(taken).unwrap_err().to_string();
            assert_eq!(text, format!("reward.onnx: the name {taken} is taken"));
        }
    }

    #[test]
    fn equal_initializers_are_one() {
        let (_folder, mut graph) = graph();
        let first = graph.constant(Constant::I64(&[0, -1]));
        assert_eq!(graph.constant(Constant::I64(&[0, -1])), first);
        assert_ne!(graph.constant(Constant::I32(&[0, -1])), first);
        let mut weight =
            |form: fn(DataType) -> Form| graph.weight("w", form(DataType::F32)).unwrap();
        let stored = weight(Form::Stored);
        assert_eq!(weight(Form::Stored), stored);
        assert_ne!(weight(Form::Transposed), stored);
        let dims: Vec<_> = graph
            .graph()
            .initializers
            .into_iter()
            .map(|t| t.dims)
            .collect();
        assert_eq!(dims, [vec![2], vec![2], vec![2, 3], vec![3, 2]]);
        assert_eq!(graph.weights(), (2, 48));
    }

    #[test]
    fn inputs_and_output_are_those_of_the_contract() {
        let (_folder, mut graph) = graph();
        let text = graph.input("pixels").unwrap_err().to_string();
        assert_eq!(text, "the contract has no input pixels");
        let ids = graph.input("input_ids").unwrap();
        let text = graph.finish(&ids).unwrap_err().to_string();
        assert_eq!(text, "rewards: expected F32, got I64");
        let cos = graph.input("rope_cos").unwrap();
        graph.finish(&cos).unwrap();
        let last = graph.graph().nodes.pop().unwrap();
        assert_eq!(
            (last.inputs, last.outputs),
            (vec!["rope_cos".to_owned()], vec!["rewards".to_owned()])
        );
    }
}
