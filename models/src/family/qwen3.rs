//! Qwen3: Qwen2 without biases, with norms of the heads' queries and keys, and with a separate width of heads.

use super::layout::{Layout, Linear, LinearBias};
use super::qwen2;
use super::spec::{FamilySpec, Flag, HeadSize};

pub(super) const FAMILY: FamilySpec = FamilySpec {
    architecture: "Qwen3ForCausalLM",
    model_type: "qwen3",
    head_size: HeadSize::Key { default: 128 },
    scalings: &["linear", "dynamic"],
    attention_bias: Flag::Key {
        name: "attention_bias",
        default: false,
    },
    mlp_bias: Flag::Fixed(false),
    layout: Layout {
        head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        attention_output: Linear {
            name: "self_attn.o_proj",
            bias: LinearBias::Attention,
        },
        ..qwen2::FAMILY.layout
    },
};
