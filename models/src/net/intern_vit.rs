//! InternViT in the 300M and the 6B style: patches, a class token, pre-norm layers with layer scale. No norm after the last
//! layer.

use super::branch::Branch;
use super::ops::{Bias, Ops};
use super::part::{AttentionLinear, Inventory, Kind, MlpLinear, Part};
use crate::Result;
use crate::config::{InternVitConfig, VisionNorm};
use crate::image::Normalization;

const CLASS_EMBEDDING: &str = "embeddings.class_embedding";
const PATCH_EMBEDDING: &str = "embeddings.patch_embedding";
const POSITION_EMBEDDING: &str = "embeddings.position_embedding";
const BLOCKS: &str = "encoder.layers";

/// u8 pixels [tiles, H, W, 3] → hidden states [tiles, 1 + patches, width] of the selected layer.
pub(super) fn forward<O: Ops>(
    ops: &mut O,
    config: &InternVitConfig,
    pixels: &O::T,
    n: Normalization,
) -> Result<O::T> {
    ops.scope(Part::Vision.module(), |ops| {
        let x = ops.patch_embedding(PATCH_EMBEDDING, pixels, config.patch, n)?;
        let x = ops.prepend_parameter(CLASS_EMBEDDING, &x)?;
        let mut x = ops.add_parameter(POSITION_EMBEDDING, &x)?;
        for index in 0..config.layers_run {
            let (config, depth) = (config.clone(), depth(config, index));
            x = ops.block(&format!("{BLOCKS}.{index}"), &x, move |ops, x| {
                layer(ops, &config, depth, x)
            })?;
        }
        Ok(x)
    })
}

/// The depth of a layer among all of the model, from 0 to 1.
fn depth(config: &InternVitConfig, index: usize) -> f64 {
    index as f64 / config.layers.saturating_sub(1).max(1) as f64
}

fn layer<O: Ops>(ops: &mut O, config: &InternVitConfig, depth: f64, x: &O::T) -> Result<O::T> {
    let normed = norm(ops, config, "norm1", x)?;
    let attended = attention(ops, config, &normed)?;
    let scaled = ops.mul_parameter("ls1", &attended)?;
    let scaled = ops.drop_path("drop_path1", depth, &scaled)?;
    let x = ops.add(x, &scaled)?;
    let normed = norm(ops, config, "norm2", &x)?;
    let fed = mlp(ops, &normed)?;
    let scaled = ops.mul_parameter("ls2", &fed)?;
    let scaled = ops.drop_path("drop_path2", depth, &scaled)?;
    ops.add(&x, &scaled)
}

fn norm<O: Ops>(ops: &mut O, config: &InternVitConfig, name: &str, x: &O::T) -> Result<O::T> {
    match config.norm {
        VisionNorm::Layer => ops.layer_norm(name, x, config.norm_eps),
        VisionNorm::Rms => ops.rms_norm(name, x, config.norm_eps),
    }
}

fn attention<O: Ops>(ops: &mut O, config: &InternVitConfig, x: &O::T) -> Result<O::T> {
    let qkv = ops.linear("attn.qkv", x, Bias::when(config.qkv_bias))?;
    let mut parts = ops.split(&qkv, 1, &[config.hidden; 3])?;
    if config.qk_norm {
        parts[0] = ops.rms_norm("attn.q_norm", &parts[0], config.norm_eps)?;
        parts[1] = ops.rms_norm("attn.k_norm", &parts[1], config.norm_eps)?;
    }
    let mixed = ops.attention(
        &parts[0],
        &parts[1],
        &parts[2],
        None,
        (config.heads, config.heads),
    )?;
    ops.linear("attn.proj", &mixed, Bias::Yes)
}

fn mlp<O: Ops>(ops: &mut O, x: &O::T) -> Result<O::T> {
    let x = ops.gelu_linear("mlp.fc1", x, Bias::Yes)?;
    ops.linear("mlp.fc2", &x, Bias::Yes)
}

/// The full name of the position embedding.
pub(super) fn position_embedding(branch: Branch) -> String {
    let (prefix, module) = (branch.prefix(), Part::Vision.module());
    format!("{prefix}{module}.{POSITION_EMBEDDING}")
}

/// Lists the tensors of the part.
pub(super) fn parameters(config: &InternVitConfig, list: &mut Inventory) {
    let (width, patch) = (config.hidden, config.patch);
    let positions = config.patches_per_side().pow(2) + 1;
    list.part(Part::Vision);
    list.add(CLASS_EMBEDDING, Kind::ClassEmbedding, &[1, 1, width]);
    list.add(
        POSITION_EMBEDDING,
        Kind::PositionEmbedding,
        &[1, positions, width],
    );
    let convolution = [width, 3, patch, patch];
    list.linear(
        PATCH_EMBEDDING,
        Kind::PatchEmbedding,
        &convolution,
        Bias::Yes,
    );
    for index in 0..config.layers {
        list.block(BLOCKS, index, |list| block_parameters(config, list));
    }
}

fn block_parameters(config: &InternVitConfig, list: &mut Inventory) {
    let (width, ffn) = (config.hidden, config.ffn);
    list.add("ls1", Kind::LayerScale, &[width]);
    list.add("ls2", Kind::LayerScale, &[width]);
    for norm in ["norm1", "norm2"] {
        match config.norm {
            VisionNorm::Layer => list.layer_norm(norm, width),
            VisionNorm::Rms => list.rms_norm(norm, width),
        }
    }
    if config.qk_norm {
        list.rms_norm("attn.q_norm", width);
        list.rms_norm("attn.k_norm", width);
    }
    let attention = Kind::Attention;
    let (packed, output) = (
        attention(AttentionLinear::Packed),
        attention(AttentionLinear::Output),
    );
    let qkv_bias = Bias::when(config.qkv_bias);
    list.linear("attn.qkv", packed, &[3 * width, width], qkv_bias);
    list.linear("attn.proj", output, &[width, width], Bias::Yes);
    let (up, down) = (Kind::Mlp(MlpLinear::Up), Kind::Mlp(MlpLinear::Down));
    list.linear("mlp.fc1", up, &[ffn, width], Bias::Yes);
    list.linear("mlp.fc2", down, &[width, ffn], Bias::Yes);
}
