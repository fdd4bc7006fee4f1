//! InternVL's projector: from the vision encoder's tokens to the language model's.

use super::ops::{Bias, Ops};
use super::part::{Inventory, Kind, MlpLinear, Part};
use crate::Result;
use crate::config::{Config, InternVitConfig};

// A sequence, whose third member is the activation.
const NORM: &str = "0";
const UP: &str = "1";
const DOWN: &str = "3";
/// PyTorch's default, which the published projector uses.
const NORM_EPSILON: f64 = 1e-5;

/// Hidden states [tiles, 1 + patches, width] → image embeddings [tiles, tokens, text width]. The class token is
/// dropped; each window of patches becomes one token.
pub(super) fn forward<O: Ops>(
    ops: &mut O,
    config: &Config,
    vision: &InternVitConfig,
    hidden: &O::T,
) -> Result<O::T> {
    let patches = ops.skip_tokens(hidden, 1)?;
    let (side, shuffle) = (config.patches_per_side(), vision.shuffle);
    let x = ops.pixel_shuffle(&patches, side, shuffle.side, shuffle.order)?;
    let full = |name: &str| format!("{}.{name}", Part::Projector.module());
    let x = ops.layer_norm(&full(NORM), &x, NORM_EPSILON)?;
    let x = ops.gelu_linear(&full(UP), &x, Bias::Yes)?;
    ops.linear(&full(DOWN), &x, Bias::Yes)
}

/// Lists the tensors of the part.
pub(super) fn parameters(config: &Config, vision: &InternVitConfig, list: &mut Inventory) {
    let (width, text) = (
        vision.hidden * vision.shuffle.side.pow(2),
        config.text.hidden,
    );
    list.part(Part::Projector);
    list.layer_norm(NORM, width);
    list.linear(UP, Kind::Mlp(MlpLinear::Up), &[text, width], Bias::Yes);
    list.linear(DOWN, Kind::Mlp(MlpLinear::Down), &[text, text], Bias::Yes);
}
