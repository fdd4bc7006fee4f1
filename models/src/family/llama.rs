//! Llama 2 and 3, and Yi: nothing packed, biases where the configuration asks for them.

use super::layout::{Layout, Linear, LinearBias, Projections};
use super::spec::{FamilySpec, Flag, HeadSize};

pub(super) const FAMILY: FamilySpec = FamilySpec {
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    head_size: HeadSize::Share,
    scalings: &["linear", "dynamic", "llama3"],
    attention_bias: Flag::Key {
        name: "attention_bias",
        default: false,
    },
    mlp_bias: Flag::Key {
        name: "mlp_bias",
        default: false,
    },
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
            bias: LinearBias::Attention,
        },
        mlp_norm: "post_attention_layernorm",
        gate_up: Projections::Separate {
            names: ["mlp.gate_proj", "mlp.up_proj"],
            bias: LinearBias::Mlp,
        },
        down: Linear {
            name: "mlp.down_proj",
            bias: LinearBias::Mlp,
        },
    },
};
