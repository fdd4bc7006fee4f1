//! InternLM2 and InternLM2.5: q/k/v packed by key head, each with the queries that it serves: [q … q k v].

use super::layout::{Layout, Linear, LinearBias, Packing, Projections};
use super::spec::{FamilySpec, Flag, HeadSize};

pub(super) const FAMILY: FamilySpec = FamilySpec {
    architecture: "InternLM2ForCausalLM",
    model_type: "internlm2",
    head_size: HeadSize::Share,
    scalings: &["linear", "dynamic"],
    attention_bias: Flag::Key {
        name: "bias",
        default: true,
    },
    mlp_bias: Flag::Fixed(false),
    layout: Layout {
        embeddings: "model.tok_embeddings",
        output: "output",
        attention_norm: "attention_norm",
        qkv: Projections::Packed {
            name: "attention.wqkv",
            packing: Packing::ByKeyHead,
            bias: LinearBias::Attention,
        },
        head_norms: None,
        attention_output: Linear {
            name: "attention.wo",
            bias: LinearBias::Attention,
        },
        mlp_norm: "ffn_norm",
        gate_up: Projections::Separate {
            names: ["feed_forward.w1", "feed_forward.w3"],
            bias: LinearBias::None,
        },
        down: Linear {
            name: "feed_forward.w2",
            bias: LinearBias::None,
        },
    },
};
