//! Qwen2 and Qwen2.5: pre-norm decoder layers, grouped-query attention with q/k/v biases, gated SiLU MLP.

use super::super::Inventory;
use super::super::ops::{Activation, Bias, Ops};
use super::Context;
use crate::Result;
use crate::config::TextConfig;

const EMBEDDINGS: &str = "language_model.model.embed_tokens";
const LM_HEAD: &str = "language_model.lm_head";
const SCOPE: &str = "language_model.model";

pub(super) fn embed<O: Ops>(ops: &mut O, ids: &O::T) -> Result<O::T> {
    ops.embedding(EMBEDDINGS, ids)
}

pub(super) fn decode<O: Ops + 'static>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    ops.scope(SCOPE, |ops| {
        let mut x = x.clone();
        for index in 0..config.layers {
            let (config, context) = (config.clone(), context.clone());
            x = ops.block(&format!("layers.{index}"), &x, move |ops, x| {
                layer(ops, &config, x, &context)
            })?;
        }
        ops.rms_norm("norm", &x, config.norm_eps)
    })
}

/// A tied model's output projection is its embedding table.
pub(super) fn logits<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
    ops.linear(
        if config.tied_embeddings {
            EMBEDDINGS
        } else {
            LM_HEAD
        },
        x,
        Bias::No,
    )
}

fn layer<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T, context: &Context<O>) -> Result<O::T> {
    let normed = ops.rms_norm("input_layernorm", x, config.norm_eps)?;
    let attended = attention(ops, config, &normed, context)?;
    let x = ops.add(x, &attended)?;
    let normed = ops.rms_norm("post_attention_layernorm", &x, config.norm_eps)?;
    let fed = mlp(ops, &normed)?;
    ops.add(&x, &fed)
}

fn attention<O: Ops>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    let heads = (config.heads, config.kv_heads);
    let q = ops.linear("self_attn.q_proj", x, Bias::Yes)?;
    let k = ops.linear("self_attn.k_proj", x, Bias::Yes)?;
    let v = ops.linear("self_attn.v_proj", x, Bias::Yes)?;
    let q = ops.rope(&q, &context.rope, heads.0)?;
    let k = ops.rope(&k, &context.rope, heads.1)?;
    let mixed = ops.attention(&q, &k, &v, Some(&context.mask), heads)?;
    ops.linear("self_attn.o_proj", &mixed, Bias::No)
}

fn mlp<O: Ops>(ops: &mut O, x: &O::T) -> Result<O::T> {
    let gate = ops.linear("mlp.gate_proj", x, Bias::No)?;
    let gate = ops.activation(Activation::Silu, &gate)?;
    let up = ops.linear("mlp.up_proj", x, Bias::No)?;
    let product = ops.mul(&gate, &up)?;
    ops.linear("mlp.down_proj", &product, Bias::No)
}

pub(super) fn parameters(config: &TextConfig, list: &mut Inventory) {
    let (width, ffn) = (config.hidden, config.ffn);
    let kv_width = config.kv_heads * config.head_dim();
    list.add(format!("{EMBEDDINGS}.weight"), &[config.vocabulary, width]);
    for index in 0..config.layers {
        let layer = format!("{SCOPE}.layers.{index}");
        list.add(format!("{layer}.input_layernorm.weight"), &[width]);
        list.add(format!("{layer}.post_attention_layernorm.weight"), &[width]);
        list.linear(format!("{layer}.self_attn.q_proj"), width, width, Bias::Yes);
        list.linear(
            format!("{layer}.self_attn.k_proj"),
            width,
            kv_width,
            Bias::Yes,
        );
        list.linear(
            format!("{layer}.self_attn.v_proj"),
            width,
            kv_width,
            Bias::Yes,
        );
        list.linear(format!("{layer}.self_attn.o_proj"), width, width, Bias::No);
        list.linear(format!("{layer}.mlp.gate_proj"), width, ffn, Bias::No);
        list.linear(format!("{layer}.mlp.up_proj"), width, ffn, Bias::No);
        list.linear(format!("{layer}.mlp.down_proj"), ffn, width, Bias::No);
    }
    list.add(format!("{SCOPE}.norm.weight"), &[width]);
    let head = [config.vocabulary, width];
    if config.tied_embeddings {
        list.optional(&format!("{LM_HEAD}.weight"), &head);
    } else {
        list.add(format!("{LM_HEAD}.weight"), &head);
    }
}
