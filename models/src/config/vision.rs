//! `vision_config` of InternVL: InternViT in the 300M or the 6B style.

use super::fields::{Fields, divides};
use crate::kinds::TokenOrder;
use crate::{Error, Result};

/// Norm of a vision layer's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionNorm {
    /// Layer norm, as in the 300M style.
    Layer,
    /// Root-mean-square norm, as in the 6B style.
    Rms,
}

/// InternViT and the pixel shuffle after it.
#[derive(Clone, Debug, PartialEq)]
pub struct InternVitConfig {
    /// Width of a token.
    pub hidden: usize,
    /// Layers stored in the checkpoint.
    pub layers: usize,
    /// Layers that run: `select_layer` picks one output of [embeddings, layer 1, …, layer n].
    pub layers_run: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub ffn: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the tiles that the checkpoint's position embedding fits, in pixels.
    pub image_size: usize,
    /// Norm before attention and MLP.
    pub norm: VisionNorm,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Whether the packed q/k/v projection has a bias.
    pub qkv_bias: bool,
    /// Whether queries and keys pass an RMS norm over their full width.
    pub qk_norm: bool,
    /// The pixel shuffle after the last layer.
    pub shuffle: PixelShuffle,
}

/// Windows of patches that become one token each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelShuffle {
    /// Side of the window (1 / `downsample_ratio`).
    pub side: usize,
    /// The order of tokens (`ps_version`).
    pub order: TokenOrder,
}

impl PixelShuffle {
    /// Reads the keys at the root of a `config.json`.
    pub(super) fn parse(root: &Fields) -> Result<Self> {
        let ratio = root.number_or("downsample_ratio", 0.5)?;
        let side = (1.0 / ratio).round();
        if !(1.0..=16.0).contains(&side) || (side * ratio - 1.0).abs() > 1e-9 {
            return Err(Error::invalid(format!(
                "downsample_ratio: expected 1/n, got {ratio}"
            )));
        }
        let order = match root.text("ps_version")? {
            Some("v1") => TokenOrder::ByColumn,
            None | Some("v2") => TokenOrder::ByRow,
            Some(_) => return Err(root.wrong("ps_version", "one of v1, v2")),
        };
        Ok(Self {
            side: side as usize,
            order,
        })
    }
}

/// What the layouts write under different keys.
struct Style {
    patch: usize,
    image_size: usize,
    qkv_bias: bool,
    qk_norm: bool,
}

impl InternVitConfig {
    /// Patches along one side of the tiles that the position embedding fits.
    pub fn patches_per_side(&self) -> usize {
        self.image_size / self.patch
    }

    pub(super) fn parse(fields: &Fields, layer: i64, shuffle: PixelShuffle) -> Result<Self> {
        let style = Style {
            patch: fields.size("patch_size")?,
            image_size: fields.size("image_size")?,
            qkv_bias: fields.flag_or("qkv_bias", true)?,
            qk_norm: fields.flag_or("qk_normalization", false)?,
        };
        Self::of_style(fields, layer, style, shuffle)
    }

    /// Reads the section as transformers writes it.
    pub(super) fn parse_transformers(
        fields: &Fields,
        layer: i64,
        shuffle: PixelShuffle,
    ) -> Result<Self> {
        fields.absent_or("use_absolute_position_embeddings", true)?;
        fields.absent_or("use_mask_token", false)?;
        fields.absent_or("use_mean_pooling", true)?;
        let style = Style {
            patch: fields.side("patch_size")?,
            image_size: fields.side("image_size")?,
            qkv_bias: fields.flag_or("attention_bias", false)?,
            qk_norm: fields.flag_or("use_qk_norm", false)?,
        };
        Self::of_style(fields, layer, style, shuffle)
    }

    fn of_style(
        fields: &Fields,
        select_layer: i64,
        style: Style,
        shuffle: PixelShuffle,
    ) -> Result<Self> {
        fields.absent_or("hidden_act", "gelu")?;
        fields.absent_or("num_channels", 3)?;
        let layers = fields.size("num_hidden_layers")?;
        let config = Self {
            hidden: fields.size("hidden_size")?,
            layers,
            layers_run: selected(select_layer, layers)?,
            heads: fields.size("num_attention_heads")?,
            ffn: fields.size("intermediate_size")?,
            patch: style.patch,
            image_size: style.image_size,
            norm: norm(fields)?,
            norm_eps: fields.number_or("layer_norm_eps", 1e-6)?,
            qkv_bias: style.qkv_bias,
            qk_norm: style.qk_norm,
            shuffle,
        };
        divides(
            "num_attention_heads",
            config.heads,
            "hidden_size",
            config.hidden,
        )?;
        divides("patch_size", config.patch, "image_size", config.image_size)?;
        Ok(config)
    }
}

fn norm(fields: &Fields) -> Result<VisionNorm> {
    match fields.text("norm_type")? {
        None | Some("layer_norm") => Ok(VisionNorm::Layer),
        Some("rms_norm") => Ok(VisionNorm::Rms),
        Some(_) => Err(fields.wrong("norm_type", "one of layer_norm, rms_norm")),
    }
}

/// The published code indexes [embeddings, layer 1, …]; negative counts from the end.
fn selected(select_layer: i64, layers: usize) -> Result<usize> {
    let count = layers as i64 + 1;
    let index = if select_layer < 0 {
        count + select_layer
    } else {
        select_layer
    };
    usize::try_from(index)
        .ok()
        .filter(|&index| index <= layers)
        .ok_or_else(|| {
            Error::invalid(format!(
                "select_layer {select_layer} is outside the {layers} layers"
            ))
        })
}
