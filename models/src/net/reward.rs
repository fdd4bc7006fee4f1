//! The whole reward model: tiles → image embeddings; tokens and image embeddings → rewards.

use super::ops::Ops;
use super::{head, language, projector, vision};
use crate::config::Config;
use crate::{Error, Result};

/// A forest of conversations as the network reads it (see [`crate::forest`]), with its images' embeddings.
pub struct Tokens<T> {
    /// Token ids, i64 [rows, tokens].
    pub input_ids: T,
    /// Rows of the rope tables, i64 [rows, tokens].
    pub position_ids: T,
    /// Document of each token, i32 [rows, tokens].
    pub document_ids: T,
    /// Branch of each token, 0 for a shared prefix, i32 [rows, tokens].
    pub branch_ids: T,
    /// Image embeddings in the order of their places, [n, width].
    pub image_embeds: T,
    /// Flat token indices of the image embeddings, i64 `[n]`.
    pub image_positions: T,
    /// Cosines by position id, f32 [entries, head/2].
    pub rope_cos: T,
    /// Sines by position id, f32 [entries, head/2].
    pub rope_sin: T,
}

/// [`Tokens`] and the places of rewards.
pub struct RewardInputs<T> {
    /// The forest.
    pub tokens: Tokens<T>,
    /// Flat indices of every branch's last token, i64 `[k]`; `None` for every token.
    pub reward_positions: Option<T>,
}

/// u8 pixels [tiles, H, W, 3] → image embeddings [tiles, tokens, text width].
///
/// # Errors
/// A model without a vision encoder.
pub fn image_embeddings<O: Ops>(ops: &mut O, config: &Config, pixels: &O::T) -> Result<O::T> {
    let features = image_features(ops, config, pixels)?;
    project(ops, config, &features)
}

/// The first half: u8 pixels → hidden states of the vision model [tiles, 1 + patches, vision width].
///
/// # Errors
/// A model without a vision encoder.
pub fn image_features<O: Ops>(ops: &mut O, config: &Config, pixels: &O::T) -> Result<O::T> {
    let no_vision = || Error::invalid("the model has no vision encoder");
    let vision = config.vision.as_ref().ok_or_else(no_vision)?;
    vision::forward(ops, vision, pixels, config.normalization)
}

/// The second half: hidden states of the vision model → image embeddings.
///
/// # Errors
/// The interpreter's.
pub fn project<O: Ops>(ops: &mut O, config: &Config, features: &O::T) -> Result<O::T> {
    projector::forward(ops, config, features)
}

/// Runs the language model over a forest: hidden states after the last norm at flat indices `at` [k] → [k, width], or
/// everywhere → [rows, tokens, width].
fn hidden_states<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    tokens: &Tokens<O::T>,
    at: Option<&O::T>,
) -> Result<O::T> {
    let x = language::embed(ops, &config.text, &tokens.input_ids)?;
    let x = ops.scatter_rows(&x, &tokens.image_embeds, &tokens.image_positions)?;
    let mask = ops.tree_mask(&tokens.document_ids, &tokens.branch_ids)?;
    let rope = ops.rope_table(&tokens.rope_cos, &tokens.rope_sin, &tokens.position_ids)?;
    language::decode(ops, &config.text, &x, &language::Context { mask, rope }, at)
}

/// One reward for each of `reward_positions`, `[k]`, or every token, [rows, tokens]: the score head over the hidden state
/// there.
///
/// # Errors
/// The interpreter's.
pub fn rewards<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    inputs: &RewardInputs<O::T>,
) -> Result<O::T> {
    let read = inputs.reward_positions.as_ref();
    let hidden = hidden_states(ops, config, &inputs.tokens, read)?;
    head::forward(ops, &config.head, &hidden)
}

/// Next-token logits `[k, vocabulary]` at flat indices `at` `[k]`.
///
/// # Errors
/// The interpreter's.
pub fn logits<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    tokens: &Tokens<O::T>,
    at: &O::T,
) -> Result<O::T> {
    let picked = hidden_states(ops, config, tokens, Some(at))?;
    ops.readout(|ops| language::logits(ops, &config.text, &picked))
}
