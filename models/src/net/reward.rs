//! The whole reward model: tiles → image embeddings; tokens and image embeddings → rewards.

use super::image_inputs::ImageInputs;
use super::ops::Ops;
use super::{head, language, vision};
use crate::Result;
use crate::config::Config;

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
    /// Image embeddings in the order of their places, `[n, width]`; see [`Config::image_width`].
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

/// Images → image embeddings [tiles, tokens, width], an image of a grid as one tile; see [`Config::image_width`].
///
/// # Errors
/// A model without a vision encoder, or with one for images in another form.
pub fn image_embeddings<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    images: &ImageInputs<O::T>,
) -> Result<O::T> {
    let features = image_features(ops, config, images)?;
    project(ops, config, &features)
}

/// The first half: images → hidden states of the vision model [tiles, patches, width], with those of a class token first
/// where there is one; see [`Config::feature_width`].
///
/// # Errors
/// As [`image_embeddings`].
pub fn image_features<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    images: &ImageInputs<O::T>,
) -> Result<O::T> {
    vision::forward(ops, config, images)
}

/// The second half: hidden states of the vision model → image embeddings.
///
/// # Errors
/// The interpreter's, or a model without a vision encoder.
pub fn project<O: Ops>(ops: &mut O, config: &Config, features: &O::T) -> Result<O::T> {
    vision::project(ops, config, features)
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
    let mut images = image_parts(ops, config, &tokens.image_embeds)?;
    let added = images.split_off(1);
    let x = ops.scatter_rows(&x, &images[0], &tokens.image_positions)?;
    let mask = ops.tree_mask(&tokens.document_ids, &tokens.branch_ids)?;
    let rope = ops.rope_table(&tokens.rope_cos, &tokens.rope_sin, &tokens.position_ids)?;
    let context = language::Context { mask, rope };
    let images = language::AddedImages {
        parts: added,
        at: tokens.image_positions.clone(),
    };
    language::decode(ops, &config.text, &x, &context, &images, at)
}

/// The image embeddings of the language model's input, then those that its first layers add.
fn image_parts<O: Ops>(ops: &mut O, config: &Config, images: &O::T) -> Result<Vec<O::T>> {
    let parts = 1 + config.deepstack();
    if parts == 1 {
        return Ok(vec![images.clone()]);
    }
    // Several layers read them.
    let images = ops.shared(images)?;
    ops.split(&images, 1, &vec![config.text.hidden; parts])
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
