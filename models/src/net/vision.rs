//! InternViT in the 300M and the 6B style: patches, a class token, pre-norm layers with layer scale. No norm after the last
//! layer.

use super::ops::{Bias, Ops};
use super::part::Inventory;
use crate::Result;
use crate::config::{VisionConfig, VisionNorm};
use crate::image::Normalization;

const SCOPE: &str = "vision_model";
/// The position embedding's full name.
pub(super) const POSITION_EMBEDDING: &str = "vision_model.embeddings.position_embedding";

/// u8 pixels [tiles, H, W, 3] → hidden states [tiles, 1 + patches, width] of the selected layer.
pub(super) fn forward<O: Ops>(
    ops: &mut O,
    config: &VisionConfig,
    pixels: &O::T,
    n: Normalization,
) -> Result<O::T> {
    ops.scope(SCOPE, |ops| {
        let x = ops.patch_embedding("embeddings.patch_embedding", pixels, config.patch, n)?;
        let x = ops.prepend_parameter("embeddings.class_embedding", &x)?;
        let mut x = ops.add_parameter("embeddings.position_embedding", &x)?;
        for index in 0..config.layers_run {
            let (config, depth) = (config.clone(), depth(config, index));
            x = ops.block(&format!("encoder.layers.{index}"), &x, move |ops, x| {
                layer(ops, &config, depth, x)
            })?;
        }
        Ok(x)
    })
}

/// How deep a layer lies among all that the model has, from 0 to 1.
fn depth(config: &VisionConfig, index: usize) -> f64 {
    index as f64 / config.layers.saturating_sub(1).max(1) as f64
}

fn layer<O: Ops>(ops: &mut O, config: &VisionConfig, depth: f64, x: &O::T) -> Result<O::T> {
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

fn norm<O: Ops>(ops: &mut O, config: &VisionConfig, name: &str, x: &O::T) -> Result<O::T> {
    match config.norm {
        VisionNorm::Layer => ops.layer_norm(name, x, config.norm_eps),
        VisionNorm::Rms => ops.rms_norm(name, x, config.norm_eps),
    }
}

fn attention<O: Ops>(ops: &mut O, config: &VisionConfig, x: &O::T) -> Result<O::T> {
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

pub(super) fn parameters(config: &VisionConfig, list: &mut Inventory) {
    let (width, ffn) = (config.hidden, config.ffn);
    let embeddings = format!("{SCOPE}.embeddings");
    list.add(format!("{embeddings}.class_embedding"), &[1, 1, width]);
    list.add(
        POSITION_EMBEDDING,
        &[1, config.patches_per_side().pow(2) + 1, width],
    );
    list.add(
        format!("{embeddings}.patch_embedding.weight"),
        &[width, 3, config.patch, config.patch],
    );
    list.add(format!("{embeddings}.patch_embedding.bias"), &[width]);
    for index in 0..config.layers {
        let layer = format!("{SCOPE}.encoder.layers.{index}");
        list.add(format!("{layer}.ls1"), &[width]);
        list.add(format!("{layer}.ls2"), &[width]);
        for norm in ["norm1", "norm2"] {
            match config.norm {
                VisionNorm::Layer => list.layer_norm(format!("{layer}.{norm}"), width),
                VisionNorm::Rms => list.add(format!("{layer}.{norm}.weight"), &[width]),
            }
        }
        if config.qk_norm {
            list.add(format!("{layer}.attn.q_norm.weight"), &[width]);
            list.add(format!("{layer}.attn.k_norm.weight"), &[width]);
        }
        list.linear(
            format!("{layer}.attn.qkv"),
            width,
            3 * width,
            Bias::when(config.qkv_bias),
        );
        list.linear(format!("{layer}.attn.proj"), width, width, Bias::Yes);
        list.linear(format!("{layer}.mlp.fc1"), width, ffn, Bias::Yes);
        list.linear(format!("{layer}.mlp.fc2"), ffn, width, Bias::Yes);
    }
}
