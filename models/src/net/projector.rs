//! `mlp1`: from the vision encoder's tokens to the language model's.

use super::ops::{Bias, Ops};
use super::part::Inventory;
use crate::Result;
use crate::config::{Config, VisionConfig};

/// PyTorch's default, which the published projector keeps.
const NORM_EPSILON: f64 = 1e-5;

/// Hidden states [tiles, 1 + patches, width] → image embeddings [tiles, tokens, text width]. The class token is
/// dropped; each window of patches becomes one token.
pub(super) fn forward<O: Ops>(ops: &mut O, config: &Config, hidden: &O::T) -> Result<O::T> {
    let patches = ops.skip_tokens(hidden, 1)?;
    let side = config.patches_per_side();
    let x = ops.pixel_shuffle(&patches, side, config.shuffle, config.token_order)?;
    let x = ops.layer_norm("mlp1.0", &x, NORM_EPSILON)?;
    let x = ops.gelu_linear("mlp1.1", &x, Bias::Yes)?;
    ops.linear("mlp1.3", &x, Bias::Yes)
}

pub(super) fn parameters(config: &Config, vision: &VisionConfig, list: &mut Inventory) {
    let (width, text) = (vision.hidden * config.shuffle.pow(2), config.text.hidden);
    list.layer_norm("mlp1.0", width);
    list.linear("mlp1.1", width, text, Bias::Yes);
    list.linear("mlp1.3", text, text, Bias::Yes);
}
