//! ONNX graphs: a [`builder`] collects nodes, constants and weights; the finished [`Graph`] writes them to files.

pub(crate) mod builder;
mod constant;
pub(crate) mod node;
mod proto;
mod shapes;
pub(crate) mod value;

use std::path::Path;

use prost::Message;
use seeward_models::contract::{Contract, OPERATORS};
use seeward_models::{Error, Result};

use crate::weights::Weights;

/// The version of the standard operator set; the first with `Attention`, `RotaryEmbedding` and `RMSNormalization`.
pub(crate) const OPSET: u32 = 23;
/// The file format version that belongs to this operator set.
const IR_VERSION: i64 = 11;
const PRODUCER: &str = "seeward";

/// A complete ONNX graph, created by [`crate::build_graph`]; its weights are still in the checkpoint.
pub struct Graph {
    file: &'static str,
    contract: Contract,
    nodes: Vec<proto::Node>,
    initializers: Vec<proto::Tensor>,
    weights: Weights,
}

impl Graph {
    /// Number of weight tensors.
    pub(crate) fn tensors(&self) -> usize {
        self.weights.len()
    }

    /// Size of the weights in bytes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// The operators of all nodes, in order.
    #[cfg(test)]
    pub(crate) fn operators(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.op_type()).collect()
    }

    /// Writes the graph into `folder`, and its weights into `{file}.data` next to it; calls `wrote` with the size of
    /// every chunk of weights. Returns the data file's name and sha256.
    ///
    /// # Errors
    /// An unreadable checkpoint, a weight outside the range of the graph's precision, or a folder that cannot be
    /// written.
    pub fn write(&self, folder: &Path, wrote: &mut dyn FnMut(u64)) -> Result<(String, String)> {
        let path = folder.join(self.file);
        std::fs::write(&path, self.model().encode_to_vec()).map_err(|e| Error::io(&path, e))?;
        let data = data_file(self.file);
        let hash = self.weights.write(&folder.join(&data), wrote)?;
        Ok((data, hash))
    }

    fn model(&self) -> proto::Model {
        proto::Model {
            ir_version: Some(IR_VERSION),
            producer_name: Some(PRODUCER.to_owned()),
            graph: Some(self.proto()),
            opset_import: self.operator_sets(),
        }
    }

    /// The operator sets in use. All but the standard one have a single version.
    fn operator_sets(&self) -> Vec<proto::OperatorSet> {
        let set = |domain: &str, version| proto::OperatorSet {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let used = |domain: &str| self.nodes.iter().any(|n| n.domain() == domain);
        let others = [node::MICROSOFT, OPERATORS]
            .into_iter()
            .filter(|domain| used(domain));
        [set(node::STANDARD, i64::from(OPSET))]
            .into_iter()
            .chain(others.map(|domain| set(domain, 1)))
            .collect()
    }

    fn proto(&self) -> proto::Graph {
        proto::Graph {
            nodes: self.nodes.clone(),
            name: Some(self.file.trim_end_matches(".onnx").to_owned()),
            initializers: self.initializers.clone(),
            inputs: self.contract.inputs.iter().map(Into::into).collect(),
            outputs: self.contract.outputs.iter().map(Into::into).collect(),
        }
    }
}

/// The name of a graph file's weights.
fn data_file(graph: &str) -> String {
    format!("{graph}.data")
}
