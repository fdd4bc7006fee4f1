//! InternVL in the layout of its published code.

use super::encoder::VisionConfig;
use super::fields::Fields;
use super::own::{Own, VISION, vision};
use super::text::TextConfig;
use super::vision::{InternVitConfig, PixelShuffle};
use crate::Result;
use crate::image::Normalization;
use crate::kinds::{Layout, Transparency};

pub(super) const TYPE: &str = "internvl_chat";
/// The key of the language model's section.
pub(super) const TEXT: &str = "llm_config";

pub(super) fn parse(root: &Fields) -> Result<Own> {
    let layer = root.integer_or("select_layer", -1)?;
    let shuffle = PixelShuffle::parse(root)?;
    let parse = |section: Fields| {
        let config = InternVitConfig::parse(&section, layer, shuffle);
        config
            .map(VisionConfig::InternVit)
            .map_err(|e| e.at(VISION))
    };
    Ok(Own {
        layout: Layout::InternvlChat,
        is_in_model: false,
        vision: vision(root)?.map(parse).transpose()?,
        text: TextConfig::parse(&root.section(TEXT)?).map_err(|e| e.at(TEXT))?,
        images: None,
        normalization: Normalization::Imagenet,
        transparency: Transparency::Dropped,
    })
}
