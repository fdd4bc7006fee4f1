//! A language model with a score head, without vision, in the layout of transformers.

use super::fields::Fields;
use super::own::Own;
use super::text::TextConfig;
use crate::image::Normalization;
use crate::kinds::{Layout, Transparency};
use crate::{Error, Result};

/// The supported types.
pub(super) const TYPES: [&str; 3] = ["qwen2", "qwen3", "llama"];
/// Ends of the class names in `architectures`: with a score head, and a language model that training gives one.
const CLASSES: [&str; 2] = ["ForSequenceClassification", "ForCausalLM"];

pub(super) fn parse(root: &Fields) -> Result<Own> {
    let class = root.first_text("architectures")?;
    if !CLASSES.iter().any(|end| class.ends_with(end)) {
        let supported = CLASSES.map(|end| format!("…{end}")).join(", ");
        return Err(Error::invalid(format!(
            "architecture {class} is not supported (supported: {supported})"
        )));
    }
    Ok(Own {
        layout: Layout::Text,
        is_in_model: false,
        vision: None,
        text: TextConfig::parse_inner(root)?,
        images: None,
        normalization: Normalization::Imagenet,
        transparency: Transparency::Dropped,
    })
}
