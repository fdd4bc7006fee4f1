//! Which of ONNX Runtime's providers runs which nodes. ort has no call that tells, so this file asks the C interface.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr;
use std::slice;

use ort::session::Session;
use ort::sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph};
use ort::{AsPointer, ortsys};

/// What a session must be told to remember for [`Placement::of`].
pub(crate) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// The nodes of a graph that one provider runs, as they were shared out before each provider fused its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The graph's file.
    pub graph: &'static str,
    /// ONNX Runtime's name of the provider, as in [`Device::provider`](crate::Device::provider).
    pub provider: String,
    /// How many nodes of each operator.
    pub operators: BTreeMap<String, usize>,
}

impl Placement {
    /// Those of a session that was told to [`RECORD`] them, by the providers' names.
    pub(crate) fn of(graph: &'static str, session: &Session) -> ort::Result<Vec<Self>> {
        let mut placements: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for &subgraph in subgraphs(session)? {
            let operators = placements.entry(provider(subgraph)?).or_default();
            for &node in nodes(session, subgraph)? {
                *operators.entry(operator(node)?).or_default() += 1;
            }
        }
        let placement = |(provider, operators)| Self {
            graph,
            provider,
            operators,
        };
        Ok(placements.into_iter().map(placement).collect())
    }
}

impl fmt::Display for Placement {
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
    // SAFETY: ONNX Runtime's array of that many, which lives as long as the session.
    Ok(unsafe { list(first, count) })
}

fn nodes(
    _owner: &Session,
    subgraph: *const OrtEpAssignedSubgraph,
) -> ort::Result<&[*const OrtEpAssignedNode]> {
    let (mut first, mut count) = (ptr::null(), 0);
    ortsys![unsafe EpAssignedSubgraph_GetNodes(subgraph, &mut first, &mut count)?];
    // SAFETY: as above.
    Ok(unsafe { list(first, count) })
}

fn provider(subgraph: *const OrtEpAssignedSubgraph) -> ort::Result<String> {
    let mut name = ptr::null();
    ortsys![unsafe EpAssignedSubgraph_GetEpName(subgraph, &mut name)?];
    // SAFETY: a string of the subgraph's, which lives as long as the session.
    Ok(unsafe { text(name) })
}

fn operator(node: *const OrtEpAssignedNode) -> ort::Result<String> {
    let mut name = ptr::null();
    ortsys![unsafe EpAssignedNode_GetOperatorType(node, &mut name)?];
    // SAFETY: a string of the node's, which lives as long as the session.
    Ok(unsafe { text(name) })
}

/// # Safety
/// So many elements lie there for as long as `'a`.
unsafe fn list<'a, T>(first: *const T, count: usize) -> &'a [T] {
    match first.is_null() {
        true => &[],
        // SAFETY: the caller's.
        false => unsafe { slice::from_raw_parts(first, count) },
    }
}

/// # Safety
/// Null, or a C string.
unsafe fn text(name: *const c_char) -> String {
    match name.is_null() {
        true => String::new(),
        // SAFETY: the caller's.
        false => unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_listed_with_their_numbers() {
        let placement = Placement {
            graph: "reward.onnx",
            provider: "CPUExecutionProvider".to_owned(),
            operators: [("Gather".to_owned(), 1), ("Shape".to_owned(), 3)].into(),
        };
        assert_eq!(
            placement.to_string(),
            "reward.onnx: 4 nodes on CPUExecutionProvider: 1 Gather, 3 Shape"
        );
    }
}
