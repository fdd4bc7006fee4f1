//! The language models: one file a family, each from token embeddings to the hidden states after its last norm.

mod qwen2;

use super::Inventory;
use super::ops::Ops;
use crate::Result;
use crate::config::{TextConfig, TextFamily};

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

/// Token ids [rows, tokens] → embeddings [rows, tokens, width].
pub(super) fn embed<O: Ops>(ops: &mut O, config: &TextConfig, ids: &O::T) -> Result<O::T> {
    match config.family {
        TextFamily::Qwen2 => qwen2::embed(ops, ids),
    }
}

/// Embeddings, images in place → hidden states after the last norm.
pub(super) fn decode<O: Ops + 'static>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    match config.family {
        TextFamily::Qwen2 => qwen2::decode(ops, config, x, context),
    }
}

/// Hidden states [k, width] → logits [k, vocabulary].
pub(super) fn logits<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
    match config.family {
        TextFamily::Qwen2 => qwen2::logits(ops, config, x),
    }
}

pub(super) fn parameters(config: &TextConfig, list: &mut Inventory) {
    match config.family {
        TextFamily::Qwen2 => qwen2::parameters(config, list),
    }
}
