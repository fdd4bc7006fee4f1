//! The graphs of a checkpoint's branch.

use anyhow::Result;
use seeward_models::bundle;
use seeward_models::contract::{self, Contract};
use seeward_models::image::ImageSettings;
use seeward_models::net::{
    self, Branch, GridInputs, ImageInputs, Ops, RewardInputs, TEXT_ONLY_SCOPE, Tokens,
};

use crate::graph::Graph;
use crate::graph::value::Value;
use crate::lower::Lowering;
use crate::ops::{GraphOps, build_graph};
use crate::source::Source;

/// The vision graph, of a branch with vision, and the reward graph.
///
/// # Errors
/// A tensor that is missing from the checkpoint.
pub(crate) fn all(source: &Source, lowering: Lowering) -> Result<Vec<Graph>> {
    let mut graphs = Vec::from_iter(vision_graph(source, lowering)?);
    graphs.push(reward_graph(source, lowering)?);
    Ok(graphs)
}

/// `None` for a branch without a vision encoder.
fn vision_graph(source: &Source, lowering: Lowering) -> Result<Option<Graph>> {
    let config = &source.config;
    if config.vision.is_none() {
        return Ok(None);
    }
    let (tokens, width) = (config.tokens_per_tile(), config.image_width());
    let contract = contract::vision_contract(&config.images, tokens, width);
    let graph = branch_graph(bundle::VISION_GRAPH, contract, source, lowering, |ops| {
        let images = image_inputs(ops, &config.images)?;
        net::image_embeddings(ops, config, &images)
    });
    graph.map(Some)
}

fn reward_graph(source: &Source, lowering: Lowering) -> Result<Graph> {
    let config = &source.config;
    let contract = contract::reward_contract(config.image_width(), config.text.head_dim);
    let lowering = lowering.of_heads(config.text.head_dim);
    branch_graph(bundle::REWARD_GRAPH, contract, source, lowering, |ops| {
        let inputs = reward_inputs(ops)?;
        net::rewards(ops, config, &inputs)
    })
}

/// The graph of `network` with the weights of the source's branch.
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

fn image_inputs(
    ops: &GraphOps,
    images: &ImageSettings,
) -> seeward_models::Result<ImageInputs<Value>> {
    let settings = match images {
        ImageSettings::Tiles(_) => return ops.input("pixels").map(ImageInputs::Tiles),
        ImageSettings::Grid(settings) => settings,
    };
    let windows = settings.window.map(|_| ops.input("window_ids"));
    let taps = settings
        .table
        .map(|_| seeward_models::Result::Ok((ops.input("taps")?, ops.input("tap_weights")?)));
    Ok(ImageInputs::Grid(GridInputs {
        patches: ops.input("patches")?,
        position_ids: ops.input("position_ids")?,
        rope_cos: ops.input("rope_cos")?,
        rope_sin: ops.input("rope_sin")?,
        window_ids: windows.transpose()?,
        taps: taps.transpose()?,
    }))
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
