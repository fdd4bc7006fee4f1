//! InternVL in the layout of transformers.

use super::encoder::VisionConfig;
use super::fields::Fields;
use super::own::{Own, VISION, vision};
use super::text::TextConfig;
use super::vision::{InternVitConfig, PixelShuffle};
use crate::Result;
use crate::image::Normalization;
use crate::kinds::{Layout, Transparency};

pub(super) const TYPE: &str = "internvl";
/// The key of the language model's section.
pub(super) const TEXT: &str = "text_config";
/// The key of the beginning of tensors' names, and its only value.
pub(super) const PREFIX: &str = "tensor_prefix";
pub(super) const MODEL: &str = "model.";
const LAYER: &str = "vision_feature_layer";
/// The key that training sets.
const OWN_LAYER: &str = "select_layer";

pub(super) fn parse(root: &Fields) -> Result<Own> {
    root.absent_or("vision_feature_select_strategy", "default")?;
    root.absent_or("projector_hidden_act", "gelu")?;
    let layer = root.integer_or(OWN_LAYER, root.integer_or(LAYER, -1)?)?;
    let shuffle = PixelShuffle::parse(root)?;
    let parse = |section: Fields| {
        let config = InternVitConfig::parse_transformers(&section, layer, shuffle);
        config
            .map(VisionConfig::InternVit)
            .map_err(|e| e.at(VISION))
    };
    let text = root.section(TEXT)?;
    Ok(Own {
        layout: Layout::Internvl,
        is_in_model: is_in_model(root)?,
        vision: vision(root)?.map(parse).transpose()?,
        text: TextConfig::parse_inner(&text).map_err(|e| e.at(TEXT))?,
        images: None,
        normalization: Normalization::Imagenet,
        transparency: Transparency::White,
    })
}

fn is_in_model(root: &Fields) -> Result<bool> {
    match root.text(PREFIX)? {
        None => Ok(false),
        Some(MODEL) => Ok(true),
        Some(_) => Err(root.wrong(PREFIX, MODEL)),
    }
}
