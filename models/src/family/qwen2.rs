//! Qwen2 and Qwen2.5: nothing packed, biases on queries, keys and values.

use super::layout::{Layout, Linear, LinearBias, Projections};
use super::spec::{FamilySpec, Flag, HeadSize};

pub(super) const FAMILY: FamilySpec = FamilySpec {
    architecture: "Qwen2ForCausalLM",
    model_type: "qwen2",
    head_size: HeadSize::Share,
    scalings: &["dynamic"],
    attention_bias: Flag::Fixed(true),
    mlp_bias: Flag::Fixed(false),
    layout: Layout {
        embeddings: "model.embed_tokens",
        output: "lm_head",
        attention_norm: "input_layernorm",
        qkv: Projections::Separate {
            names: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            bias: LinearBias::Attention,
        },
        head_norms: None,
        attention_output: Linear {
            name: "self_attn.o_proj",
            bias: LinearBias::None,
        },
        mlp_norm: "post_attention_layernorm",
        gate_up: Projections::Separate {
            names: ["mlp.gate_proj", "mlp.up_proj"],
            bias: LinearBias::None,
        },
        down: Linear {
            name: "mlp.down_proj",
            bias: LinearBias::None,
        },
    },
};
