//! A family as data.

use super::layout::Layout;

/// A family of language models: one file and one entry of [`FAMILIES`](super::FAMILIES) add one.
pub(super) struct FamilySpec {
    /// Its class in `architectures`.
    pub(super) architecture: &'static str,
    /// Its `model_type`, which names it in a config without `architectures`.
    pub(super) model_type: &'static str,
    /// The width of a head.
    pub(super) head_size: HeadSize,
    /// The kinds of `rope_scaling` that its published code computes.
    pub(super) scalings: &'static [&'static str],
    /// Whether the attention's projections have biases.
    pub(super) attention_bias: Flag,
    /// Whether the MLP's projections have biases.
    pub(super) mlp_bias: Flag,
    /// Names and packing of its tensors.
    pub(super) layout: Layout,
}

/// A property of a family, or of each of its models.
#[derive(Clone, Copy)]
pub(crate) enum Flag {
    /// The same for all.
    Fixed(bool),
    /// A key of `llm_config`, with the default of the published class.
    Key {
        /// The key.
        name: &'static str,
        /// The value where the key is absent.
        default: bool,
    },
}

/// The width of an attention head.
#[derive(Clone, Copy)]
pub(crate) enum HeadSize {
    /// The model's width divided by the number of heads.
    Share,
    /// The key `head_dim`, with the default of the published class.
    Key {
        /// The value where the key is absent.
        default: usize,
    },
}
