//! Turns a checkpoint into a bundle: `vision.onnx` (of a branch that has vision) and `reward.onnx` with their weights beside them, the tokenizer,
//! and `reward_model.json`. Pure Rust: neither LibTorch nor ONNX Runtime is involved.
//!
//! The network is the one of [`seeward_models::net`], run over a graph builder instead of tensors. A graph is complete
//! before its first weight is written; the weights are then streamed from the checkpoint by ranges.

mod cast;
mod constant;
mod form;
mod graph;
mod lower;
mod offer;
mod ops;
mod probes;
mod proto;
mod quantize;
mod sink;
mod source;
mod stream;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, bail};
use seeward_models::atomic::replace_folder;
use seeward_models::bundle::{self, Manifest};
use seeward_models::checkpoint::Checkpoint;
use seeward_models::contract::{self, Contract};
use seeward_models::forest::ModelFlops;
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::{self, Branch, Ops, RewardInputs, TEXT_ONLY_SCOPE, Tokens};
use seeward_models::{Error, config::Config};

pub use graph::{Graph, Value};
pub use lower::Lowering;
pub use lower::attention::TreeMask;
pub use ops::GraphOps;
use source::Source;

/// What to export, and as what.
#[derive(Clone, Debug)]
pub struct Options {
    /// A checkpoint folder in the Hugging Face layout, with `score.weight`.
    pub checkpoint: PathBuf,
    /// The bundle's folder: new, empty, or a bundle, which is replaced.
    pub output: PathBuf,
    /// Which of a shortcut-aware checkpoint's two models.
    pub branch: Branch,
    /// What the graphs are made for.
    pub target: Target,
    /// Precision of the weights.
    pub precision: Precision,
    /// Tokens of a conversation; by default what the checkpoint was trained with.
    pub max_length: Option<usize>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Weights, over both graphs.
    pub tensors: usize,
    /// Every file of the bundle and its bytes.
    pub files: BTreeMap<String, u64>,
    /// Probes of the checkpoint that are in the bundle.
    pub probes: usize,
    /// Those that are not: another `max_length` than the trainer's cuts them, which changes their rewards.
    pub probes_left_out: usize,
}

impl Summary {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().sum()
    }
}

/// How far the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written so far.
    pub written: u64,
    /// Bytes there are.
    pub total: u64,
}

/// Writes the bundle. The same checkpoint, path and options give the same bytes; on an error the output folder is as
/// it was.
///
/// # Errors
/// A checkpoint that is no reward model or does not fit its configuration, a combination of target and precision that
/// is not offered, or an output folder that holds something else.
pub fn export(options: &Options) -> Result<Summary> {
    export_with(options, |_| ())
}

/// As [`export`]; `progress` hears of every piece of weights.
///
/// # Errors
/// As [`export`].
pub fn export_with(options: &Options, mut progress: impl FnMut(Progress)) -> Result<Summary> {
    let lowering = Lowering::new(options.target, options.precision)?;
    check_output(options)?;
    let source = Source::open(options)?;
    let mut graphs = Vec::from_iter(vision_graph(&source, lowering)?);
    graphs.push(reward_graph(&source, lowering)?);
    let total = graphs.iter().map(|graph| graph.weights().1).sum();
    let mut written = 0;
    let mut wrote = |bytes| {
        written += bytes;
        progress(Progress { written, total });
    };
    replace_folder(&options.output, |folder| -> Result<()> {
        let mut manifest = manifest(options, &source, lowering);
        for graph in &graphs {
            manifest.files.extend([graph.write(folder, &mut wrote)?]);
        }
        copy_tokenizer(&source, folder)?;
        copy_probe_images(options, &source, folder)?;
        Ok(bundle::write_manifest(folder, manifest)?)
    })?;
    Ok(Summary {
        tensors: graphs.iter().map(|graph| graph.weights().0).sum(),
        files: file_sizes(&options.output)?,
        probes: source.probes.kept.len(),
        probes_left_out: source.probes.left_out,
    })
}

/// The graph of `network`, for the file of that name: its inputs and its one output are those of `contract`, its weights
/// those of `checkpoint`, by the names that `network` asks for. Nothing is written yet ([`Graph::write`]).
///
/// # Errors
/// Those of `network`, such as a tensor that the checkpoint has not; a contract with another number of outputs than
/// one, or an output of another element type.
pub fn build_graph(
    file: &'static str,
    contract: Contract,
    checkpoint: Rc<Checkpoint>,
    lowering: Lowering,
    network: impl FnOnce(&mut GraphOps) -> seeward_models::Result<Value>,
) -> seeward_models::Result<Graph> {
    let mut ops = GraphOps::new(Graph::new(file, contract, checkpoint), lowering);
    let output = network(&mut ops)?;
    ops.finish(&output)
}

/// The output folder is replaced whole, so it must hold nothing but a bundle.
fn check_output(options: &Options) -> Result<()> {
    let output = &options.output;
    if !output.exists() {
        return Ok(());
    }
    let place = output.display();
    let resolved = |path: &Path| path.canonicalize().map_err(|e| Error::io(path, e));
    if resolved(&options.checkpoint)?.starts_with(resolved(output)?) {
        bail!("{place}: the checkpoint is in this folder, which the bundle would replace");
    }
    if !output.join(bundle::MANIFEST_FILE).is_file() && !file_sizes(output)?.is_empty() {
        bail!(
            "{place}: expected a new or empty folder, or a bundle to replace; there is something else (no {})",
            bundle::MANIFEST_FILE
        );
    }
    Ok(())
}

fn file_sizes(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let sizes = || -> std::io::Result<_> {
        let size = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.metadata()?.len()))
        };
        std::fs::read_dir(folder)?.map(size).collect()
    };
    Ok(sizes().map_err(|e| Error::io(folder, e))?)
}

/// None of a branch without a vision encoder.
fn vision_graph(source: &Source, lowering: Lowering) -> Result<Option<Graph>> {
    let config = &source.config;
    if config.vision.is_none() {
        return Ok(None);
    }
    let contract = contract::vision_contract(
        config.tiles.image_size as usize,
        config.tokens_per_tile(),
        config.text.hidden,
    );
    let graph = branch_graph(bundle::VISION_GRAPH, contract, source, lowering, |ops| {
        let pixels = ops.input("pixels")?;
        net::image_embeddings(ops, config, &pixels)
    });
    graph.map(Some)
}

fn reward_graph(source: &Source, lowering: Lowering) -> Result<Graph> {
    let config = &source.config;
    let contract = contract::reward_contract(config.text.hidden, config.text.head_dim());
    let lowering = lowering.of_heads(config.text.head_dim());
    branch_graph(bundle::REWARD_GRAPH, contract, source, lowering, |ops| {
        let inputs = reward_inputs(ops)?;
        net::rewards(ops, config, &inputs)
    })
}

/// The graph of `network`, its weights those of the source's branch.
fn branch_graph(
    file: &'static str,
    contract: Contract,
    source: &Source,
    lowering: Lowering,
    network: impl FnOnce(&mut GraphOps) -> seeward_models::Result<Value>,
) -> Result<Graph> {
    let checkpoint = source.checkpoint.clone();
    let graph = build_graph(file, contract, checkpoint, lowering, |ops| {
        match source.branch {
            Branch::Main => network(ops),
            Branch::TextOnly => ops.scope(TEXT_ONLY_SCOPE, network),
        }
    });
    Ok(graph?)
}

fn reward_inputs(ops: &GraphOps) -> seeward_models::Result<RewardInputs<Value>> {
    Ok(RewardInputs {
        tokens: Tokens {
            input_ids: ops.input("input_ids")?,
            position_ids: ops.input("position_ids")?,
            document_ids: ops.input("document_ids")?,
            branch_ids: ops.input("branch_ids")?,
            image_embeds: ops.input("image_embeds")?,
            image_positions: ops.input("image_positions")?,
            rope_cos: ops.input("rope_cos")?,
            rope_sin: ops.input("rope_sin")?,
        },
        reward_positions: Some(ops.input("reward_positions")?),
    })
}

fn copy_tokenizer(source: &Source, folder: &Path) -> Result<()> {
    for file in source.prompter.tokenizer().files() {
        let copy = folder.join(file_name(file));
        std::fs::copy(file, copy).map_err(|e| Error::io(file, e))?;
    }
    Ok(())
}

fn copy_probe_images(options: &Options, source: &Source, folder: &Path) -> Result<()> {
    for image in source.probes.kept.iter().flat_map(|probe| &probe.images) {
        let (from, to) = (options.checkpoint.join(image), folder.join(image));
        let parent = to.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        std::fs::copy(&from, to).map_err(|e| Error::io(&from, e))?;
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn manifest(options: &Options, source: &Source, lowering: Lowering) -> Manifest {
    let config = &source.config;
    Manifest {
        format_version: bundle::FORMAT_VERSION,
        family: family(config),
        target: options.target,
        precision: options.precision,
        opset: graph::OPSET,
        hidden_size: config.text.hidden,
        rope: config.text.rope.clone(),
        work: ModelFlops::of(&config.text),
        prompt: source.prompter.settings().clone(),
        tiles: config.tiles,
        input_mode: source.input_mode,
        reward_mean: source.reward_scale.map(|scale| scale.mean),
        reward_std: source.reward_scale.map(|scale| scale.std),
        probes: source.probes.kept.clone(),
        probe_tolerance: lowering.probe_tolerance(),
        checkpoint: options.checkpoint.display().to_string(),
        tokenizer: tokenizer_files(source),
        files: BTreeMap::new(),
    }
}

fn tokenizer_files(source: &Source) -> Vec<String> {
    let files = source.prompter.tokenizer().files();
    files.iter().map(|file| file_name(file)).collect()
}

/// The architecture's name in config.json, which [`Config`] has checked to be there.
fn family(config: &Config) -> String {
    let architecture = &config.json()["llm_config"]["architectures"][0];
    architecture.as_str().unwrap_or_default().to_owned()
}
