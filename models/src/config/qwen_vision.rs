//! `vision_config` of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

use serde_json::Value;

use super::fields::{Fields, divides};
use crate::Result;

/// The generation of the encoder, which decides its norms, its MLP and the names of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QwenGeneration {
    /// Qwen2-VL: layer norms, and an MLP with an approximate GELU by a sigmoid.
    Qwen2,
    /// Qwen2.5-VL: RMS norms, a gated MLP, and windows in most layers.
    Qwen2_5,
    /// Qwen3-VL: layer norms, an MLP with an approximate GELU by tanh, position embeddings, and several outputs.
    Qwen3,
}

/// The vision encoder and the mergers after it.
#[derive(Clone, Debug, PartialEq)]
pub struct QwenVisionConfig {
    /// Its generation.
    pub generation: QwenGeneration,
    /// Width of a patch.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub ffn: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side in patches of the square that becomes a token.
    pub merge: usize,
    /// Frames of a patch, which an image repeats.
    pub frames: usize,
    /// Width of the language model, for which the mergers' output is.
    pub output: usize,
    /// Side in tokens of the windows of all layers but `full_layers`.
    pub window: Option<usize>,
    /// Layers that attend to the whole image although others have windows.
    pub full_layers: Vec<usize>,
    /// Side of the square table of position embeddings.
    pub table: Option<usize>,
    /// Layers whose hidden states are merged too, for the first layers of the language model.
    pub deepstack: Vec<usize>,
}

impl QwenVisionConfig {
    /// Epsilon of all norms, which no file has.
    pub(crate) const NORM_EPS: f64 = 1e-6;

    pub(super) fn parse(fields: &Fields, generation: QwenGeneration) -> Result<Self> {
        let is_first = generation == QwenGeneration::Qwen2;
        let (width, output) = match is_first {
            true => ("embed_dim", "hidden_size"),
            false => ("hidden_size", "out_hidden_size"),
        };
        let hidden = fields.size(width)?;
        fields.absent_or("hidden_act", activation(generation))?;
        fields.absent_or("in_chans", 3)?;
        fields.absent_or("in_channels", 3)?;
        axial_rope(fields)?;
        let layers = fields.size("depth")?;
        let patch = fields.size("patch_size")?;
        let merge = fields.size_or("spatial_merge_size", 2)?;
        let config = Self {
            generation,
            hidden,
            layers,
            heads: fields.size("num_heads")?,
            ffn: match is_first {
                true => hidden * fields.size("mlp_ratio")?,
                false => fields.size("intermediate_size")?,
            },
            patch,
            merge,
            frames: fields.size_or("temporal_patch_size", 2)?,
            output: fields.size(output)?,
            window: window(fields, generation, patch * merge)?,
            full_layers: match generation {
                QwenGeneration::Qwen2_5 => indices(fields, "fullatt_block_indexes", layers)?,
                _ => Vec::new(),
            },
            table: table(fields, generation)?,
            deepstack: match generation {
                QwenGeneration::Qwen3 => indices(fields, "deepstack_visual_indexes", layers)?,
                _ => Vec::new(),
            },
        };
        divides("num_heads", config.heads, width, hidden)?;
        divides("rotary axes of 4", 4, "head size", config.head_dim())?;
        Ok(config)
    }

    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Patches of one token.
    pub fn patches_per_token(&self) -> usize {
        self.merge * self.merge
    }
}

fn activation(generation: QwenGeneration) -> &'static str {
    match generation {
        QwenGeneration::Qwen2 => "quick_gelu",
        QwenGeneration::Qwen2_5 => "silu",
        QwenGeneration::Qwen3 => "gelu_pytorch_tanh",
    }
}

fn axial_rope(fields: &Fields) -> Result<()> {
    const KEY: &str = "rope_parameters";
    if fields.get(KEY).is_none() {
        return Ok(());
    }
    let rope = fields.section(KEY)?;
    let theta = rope
        .number_or("rope_theta", 10000.0)
        .map_err(|e| e.at(KEY))?;
    if theta != 10000.0 {
        return Err(rope.wrong("rope_theta", "10000").at(KEY));
    }
    rope.absent_or("rope_type", "axial").map_err(|e| e.at(KEY))
}

fn window(fields: &Fields, generation: QwenGeneration, token: usize) -> Result<Option<usize>> {
    if generation != QwenGeneration::Qwen2_5 {
        return Ok(None);
    }
    let pixels = fields.size("window_size")?;
    divides(
        "patch_size · spatial_merge_size",
        token,
        "window_size",
        pixels,
    )?;
    Ok(Some(pixels / token))
}

fn table(fields: &Fields, generation: QwenGeneration) -> Result<Option<usize>> {
    const KEY: &str = "num_position_embeddings";
    if generation != QwenGeneration::Qwen3 {
        return Ok(None);
    }
    let entries = fields.size(KEY)?;
    let side = entries.isqrt();
    match side * side == entries {
        true => Ok(Some(side)),
        false => Err(fields.wrong(KEY, "the number of a square's places")),
    }
}

/// A list of layers in ascending order.
fn indices(fields: &Fields, key: &str, layers: usize) -> Result<Vec<usize>> {
    let wrong = || {
        fields.wrong(
            key,
            &format!("a list of layers below {layers} in ascending order"),
        )
    };
    let list = fields
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(wrong)?;
    let indices: Option<Vec<usize>> = list
        .iter()
        .map(|index| index.as_u64().map(|index| index as usize))
        .collect();
    let indices = indices.ok_or_else(wrong)?;
    let ascends = indices.windows(2).all(|pair| pair[0] < pair[1]);
    match ascends && indices.last().is_none_or(|&last| last < layers) {
        true => Ok(indices),
        false => Err(wrong()),
    }
}
