//! The language models, from token embeddings to the hidden states after the last norm: what they share in [`decoder`],
//! and one file a family for what it has of its own.

mod decoder;
mod internlm2;
mod llama;
mod phi3;
mod qwen2;

use super::ops::Ops;
use super::part::Inventory;
use crate::Result;
use crate::config::{TextConfig, TextFamily};
use decoder::Layout;

/// What every layer of a decoder needs beside its input.
pub(super) struct Context<O: Ops> {
    pub(super) mask: O::Mask,
    pub(super) rope: O::Rope,
}

// Derived, Clone would be asked of the interpreter itself.
impl<O: Ops> Clone for Context<O> {
    fn clone(&self) -> Self {
        Self {
            mask: self.mask.clone(),
            rope: self.rope.clone(),
        }
    }
}

fn layout(config: &TextConfig) -> Layout {
    match config.family {
        TextFamily::Qwen2 => qwen2::layout(),
        TextFamily::Llama => llama::layout(config),
        TextFamily::InternLm2 => internlm2::layout(config),
        TextFamily::Phi3 => phi3::layout(),
    }
}

/// Token ids [rows, tokens] → embeddings [rows, tokens, width].
pub(super) fn embed<O: Ops>(ops: &mut O, config: &TextConfig, ids: &O::T) -> Result<O::T> {
    decoder::embed(ops, &layout(config), ids)
}

/// Embeddings, images in place → hidden states after the last norm: at flat indices `at` [k] → [k, width], or everywhere.
pub(super) fn decode<O: Ops + 'static>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
    at: Option<&O::T>,
) -> Result<O::T> {
    decoder::decode(ops, config, x, context, at)
}

/// Hidden states [k, width] → logits [k, vocabulary].
pub(super) fn logits<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
    decoder::logits(ops, &layout(config), config, x)
}

pub(super) fn parameters(config: &TextConfig, list: &mut Inventory) {
    decoder::parameters(&layout(config), config, list);
}

/// The name of the token embeddings' tensor [vocabulary, width].
pub fn token_embeddings(config: &TextConfig) -> String {
    decoder::embeddings(&layout(config))
}

/// The name of the output projection's tensor [vocabulary, width]; a tied model may lack it.
pub fn output_projection(config: &TextConfig) -> String {
    decoder::output(&layout(config))
}
