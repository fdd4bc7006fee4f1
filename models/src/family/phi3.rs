//! Phi-3: all queries, then all keys, then all values in one tensor; gate and up in another.

use super::layout::{Layout, Linear, LinearBias, Packing, Projections};
use super::spec::{FamilySpec, Flag, HeadSize};

pub(super) const FAMILY: FamilySpec = FamilySpec {
    architecture: "Phi3ForCausalLM",
    model_type: "phi3",
    head_size: HeadSize::Share,
    scalings: &["su", "longrope"],
    attention_bias: Flag::Fixed(false),
    mlp_bias: Flag::Fixed(false),
    layout: Layout {
        embeddings: "model.embed_tokens",
        output: "lm_head",
        attention_norm: "input_layernorm",
        qkv: Projections::Packed {
            name: "self_attn.qkv_proj",
            packing: Packing::OneByOne,
            bias: LinearBias::None,
        },
        head_norms: None,
        attention_output: Linear {
            name: "self_attn.o_proj",
            bias: LinearBias::None,
        },
        mlp_norm: "post_attention_layernorm",
        gate_up: Projections::Packed {
            name: "mlp.gate_up_proj",
            packing: Packing::OneByOne,
            bias: LinearBias::None,
        },
        down: Linear {
            name: "mlp.down_proj",
            bias: LinearBias::None,
        },
    },
};
