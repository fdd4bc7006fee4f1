//! The settings of prompts.

use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::{Error, Result};

/// All settings that decide the ids, except the tokenizer. Recorded in checkpoints and bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSettings {
    /// The conversation template.
    pub template: Template,
    /// Image tokens for one [unit](crate::image::Extent::units) of an image: of a tile, or 1 in a grid of tokens; 0 for a
    /// model without vision, which sees the prompt without its `<image>` tags.
    pub tokens_per_tile: usize,
    /// The maximal number of tokens; the rest is cut off on the right.
    pub max_length: usize,
    /// Whether special tokens in a prompt or response are read as text; the published code parses them.
    pub literal_special_tokens: bool,
}

impl PromptSettings {
    pub(super) fn check_sizes(&self) -> Result<()> {
        match self.max_length {
            0 => Err(Error::invalid("max_length: expected at least 1, got 0")),
            _ => Ok(()),
        }
    }
}
