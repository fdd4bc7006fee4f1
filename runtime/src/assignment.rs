//! The execution provider of each node. ort has no call for it, so this file uses the C interface.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr;
use std::slice;

use ort::session::Session;
use ort::sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph};
use ort::{AsPointer, ortsys};

/// The session option that [`NodeAssignment::of`] needs.
pub(crate) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// The nodes of a graph that one execution provider runs, before each provider fuses its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeAssignment {
    /// The graph's file name.
    pub graph: &'static str,
    /// ONNX Runtime's name of the provider, as in [`Device::provider`](crate::Device::provider).
    pub provider: String,
    /// The number of nodes of each operator.
    pub operators: BTreeMap<String, usize>,
}

impl NodeAssignment {
    /// Those of a session with the option [`RECORD`], sorted by provider.
    pub(crate) fn of(graph: &'static str, session: &Session) -> ort::Result<Vec<Self>> {
        let mut assignments: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for &subgraph in subgraphs(session)? {
            let operators = assignments.entry(provider(subgraph)?).or_default();
            for &node in nodes(session, subgraph)? {
                *operators.entry(operator(node)?).or_default() += 1;
            }
        }
        let assignment = |(provider, operators)| Self {
            graph,
            provider,
            operators,
        };
        Ok(assignments.into_iter().map(assignment).collect())
    }
}

impl fmt::Display for NodeAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: usize = self.operators.values().sum();
        let operators = self.operators.iter();
        let operators: Vec<String> = operators.map(|(name, n)| format!("{n} {name}")).collect();
        let (graph, provider) = (self.graph, &self.provider);
        write!(
            f,
            "{graph}: {nodes} nodes on {provider}: {}",
            operators.join(", ")
        )
    }
}

fn subgraphs(session: &Session) -> ort::Result<&[*const OrtEpAssignedSubgraph]> {
    let (mut first, mut count) = (ptr::null(), 0);
    ortsys![unsafe Session_GetEpGraphAssignmentInfo(session.ptr(), &mut first, &mut count)?];
    // SAFETY: ONNX Runtime's array of `count` elements, which lives as long as the session.
    Ok(unsafe { list(first, count) })
}

fn nodes(
    _owner: &Session,
    subgraph: *const OrtEpAssignedSubgraph,
) -> ort::Result<&[*const OrtEpAssignedNode]> {
    let (mut first, mut count) = (ptr::null(), 0);
    ortsys![unsafe EpAssignedSubgraph_GetNodes(subgraph, &mut first, &mut count)?];
    // SAFETY: ONNX Runtime's array of `count` elements, which lives as long as the session, the owner.
    Ok(unsafe { list(first, count) })
}

fn provider(subgraph: *const OrtEpAssignedSubgraph) -> ort::Result<String> {
    let mut name = ptr::null();
    ortsys![unsafe EpAssignedSubgraph_GetEpName(subgraph, &mut name)?];
    // SAFETY: a string of the subgraph, which lives as long as the session.
    Ok(unsafe { text(name) })
}

fn operator(node: *const OrtEpAssignedNode) -> ort::Result<String> {
    let mut name = ptr::null();
    ortsys![unsafe EpAssignedNode_GetOperatorType(node, &mut name)?];
    // SAFETY: a string of the node, which lives as long as the session.
    Ok(unsafe { text(name) })
}

/// # Safety
/// `first` is null, or `count` elements lie there for as long as `'a`.
unsafe fn list<'a, T>(first: *const T, count: usize) -> &'a [T] {
    match first.is_null() {
        true => &[],
        // SAFETY: the caller's promise.
        false => unsafe { slice::from_raw_parts(first, count) },
    }
}

/// # Safety
/// Null, or a C string.
unsafe fn text(name: *const c_char) -> String {
    match name.is_null() {
        true => String::new(),
        // SAFETY: the caller's promise.
        false => unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_listed_with_their_counts() {
        let assignment = NodeAssignment {
            graph: "reward.onnx",
            provider: "CPUExecutionProvider".to_owned(),
            operators: [("Gather".to_owned(), 1), ("Shape".to_owned(), 3)].into(),
        };
        assert_eq!(
            assignment.to_string(),
            "reward.onnx: 4 nodes on CPUExecutionProvider: 1 Gather, 3 Shape"
        );
    }
}
