//! Turns a checkpoint into a bundle: `vision.onnx` (of a branch with vision) and `reward.onnx`, their weights in data files
//! next to them, the tokenizer, and `reward_model.json`. Pure Rust: neither LibTorch nor ONNX Runtime is involved.
//!
//! The network is the one of [`seeward_models::net`], run over a graph builder instead of tensors. A graph is complete
//! before its first weight is written; the weights are then streamed from the checkpoint window by window.

mod branch_graphs;
mod data_type;
mod folder;
mod graph;
mod lower;
mod ops;
mod options;
mod probes;
mod program;
mod source;
mod support;
mod weights;

use anyhow::Result;
use seeward_models::atomic::replace_folder;
use seeward_models::bundle;

pub use graph::Graph;
pub use graph::value::Value;
pub use lower::Lowering;
pub use lower::attention::TokenMask;
pub use ops::{GraphOps, build_graph};
pub use options::{Options, Progress, Summary};
pub use program::{main, main_of};
use source::Source;

/// Writes the bundle. The same checkpoint, path and options give the same bytes; an error leaves the output folder
/// unchanged.
///
/// # Errors
/// A checkpoint that is not a reward model or does not fit its configuration, an unsupported combination of target and
/// precision, or an output folder with other content.
pub fn export(options: &Options) -> Result<Summary> {
    export_with(options, |_| ())
}

/// Like [`export`]; calls `progress` after every chunk of weights.
///
/// # Errors
/// As [`export`].
pub fn export_with(options: &Options, mut progress: impl FnMut(Progress)) -> Result<Summary> {
    let lowering = Lowering::new(options.target, options.precision)?;
    folder::check_output(options)?;
    let source = Source::open(options)?;
    let graphs = branch_graphs::all(&source, lowering)?;
    let total = graphs.iter().map(Graph::weight_bytes).sum();
    let mut written = 0;
    let mut wrote = |bytes| {
        written += bytes;
        progress(Progress { written, total });
    };
    replace_folder(&options.output, |into| -> Result<()> {
        let mut manifest = folder::manifest(options, &source, lowering);
        for graph in &graphs {
            manifest.files.extend([graph.write(into, &mut wrote)?]);
        }
        folder::copy_tokenizer(&source, into)?;
        folder::copy_probe_images(options, &source, into)?;
        Ok(bundle::write_manifest(into, manifest)?)
    })?;
    Ok(Summary {
        tensors: graphs.iter().map(Graph::tensors).sum(),
        files: folder::file_sizes(&options.output)?,
        probes: source.probes.kept.len(),
        skipped_probes: source.probes.skipped,
        notice: source.notice,
    })
}
