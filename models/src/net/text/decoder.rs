//! What the families share: pre-norm layers of grouped-query attention over rotary positions and a gated SiLU MLP. A
//! family's own file says how its layers name and pack their projections.

use super::super::ops::{Bias, Ops};
use super::super::part::{AttentionLinear, Inventory, Kind, MlpLinear, Part};
use super::Context;
use crate::Result;
use crate::config::TextConfig;

const BLOCKS: &str = "layers";

/// A family's names, and how its projections are packed.
pub(super) struct Layout {
    /// The token embeddings.
    pub(super) embeddings: &'static str,
    /// The output projection, unless it is tied to the embeddings.
    pub(super) output: &'static str,
    /// The norm before attention.
    pub(super) attention_norm: &'static str,
    /// Queries, keys and values.
    pub(super) qkv: Projections<3>,
    /// Back from the heads.
    pub(super) attention_output: Linear,
    /// The norm before the MLP.
    pub(super) mlp_norm: &'static str,
    /// The MLP's gate and what it lets through.
    pub(super) gate_up: Projections<2>,
    /// Back from the MLP's width.
    pub(super) down: Linear,
}

/// A linear layer.
pub(super) struct Linear {
    pub(super) name: &'static str,
    pub(super) bias: Bias,
}

/// Several linear layers over one input.
pub(super) enum Projections<const N: usize> {
    /// Each a tensor of its own.
    Apart {
        names: [&'static str; N],
        bias: Bias,
    },
    /// One tensor: `groups` runs, each with its share of every projection.
    Packed {
        name: &'static str,
        groups: usize,
        bias: Bias,
    },
}

impl<const N: usize> Projections<N> {
    /// x → the projections, `sizes` wide.
    fn forward<O: Ops>(&self, ops: &mut O, x: &O::T, sizes: [usize; N]) -> Result<Vec<O::T>> {
        match self {
            Self::Apart { names, bias } => {
                let mut linear = |name: &&str| ops.linear(name, x, *bias);
                names.iter().map(&mut linear).collect()
            }
            Self::Packed { name, groups, bias } => {
                let packed = ops.linear(name, x, *bias)?;
                ops.split(&packed, *groups, &sizes.map(|size| size / groups))
            }
        }
    }

    /// Lists the tensors; `kinds` are those of the projections, and of all of them packed.
    fn parameters(
        &self,
        list: &mut Inventory,
        input: usize,
        sizes: [usize; N],
        (kinds, packed): ([Kind; N], Kind),
    ) {
        match self {
            Self::Apart { names, bias } => {
                for ((name, kind), size) in names.iter().zip(kinds).zip(sizes) {
                    list.linear(name, kind, &[size, input], *bias);
                }
            }
            Self::Packed { name, bias, .. } => {
                list.linear(name, packed, &[sizes.iter().sum(), input], *bias);
            }
        }
    }
}

pub(super) fn embed<O: Ops>(ops: &mut O, layout: &Layout, ids: &O::T) -> Result<O::T> {
    ops.scope(Part::Language.module(), |ops| {
        ops.embedding(layout.embeddings, ids)
    })
}

pub(super) fn decode<O: Ops + 'static>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
    at: Option<&O::T>,
) -> Result<O::T> {
    ops.scope(&format!("{}.model", Part::Language.module()), |ops| {
        let mut x = x.clone();
        for index in 0..config.layers {
            let (config, context) = (config.clone(), context.clone());
            // What the last layer makes of other tokens nobody reads.
            let read = at.filter(|_| index + 1 == config.layers).cloned();
            x = ops.block(&format!("{BLOCKS}.{index}"), &x, move |ops, x| {
                layer(ops, &config, x, &context, read.as_ref())
            })?;
        }
        ops.rms_norm("norm", &x, config.norm_eps)
    })
}

/// A tied model's output projection is its embedding table.
pub(super) fn logits<O: Ops>(
    ops: &mut O,
    layout: &Layout,
    config: &TextConfig,
    x: &O::T,
) -> Result<O::T> {
    let output = if config.tied_embeddings {
        layout.embeddings
    } else {
        layout.output
    };
    ops.scope(Part::Language.module(), |ops| {
        ops.linear(output, x, Bias::No)
    })
}

/// Of all tokens, or, flattened to [k, width], of those at the flat indices `read`: all are attended to in any case.
fn layer<O: Ops>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
    read: Option<&O::T>,
) -> Result<O::T> {
    let layout = super::layout(config);
    let normed = ops.rms_norm(layout.attention_norm, x, config.norm_eps)?;
    let mixed = attention(ops, &layout, config, &normed, context)?;
    let Some(at) = read else {
        return after_attention(ops, &layout, config, x, &mixed);
    };
    ops.readout(|ops| {
        let (x, mixed) = (ops.gather_rows(x, at)?, ops.gather_rows(&mixed, at)?);
        after_attention(ops, &layout, config, &x, &mixed)
    })
}

/// The rest of a layer, row by row: attention's output projection and the MLP.
fn after_attention<O: Ops>(
    ops: &mut O,
    layout: &Layout,
    config: &TextConfig,
    x: &O::T,
    mixed: &O::T,
) -> Result<O::T> {
    let Linear { name, bias } = layout.attention_output;
    let attended = ops.linear(name, mixed, bias)?;
    let x = ops.add(x, &attended)?;
    let normed = ops.rms_norm(layout.mlp_norm, &x, config.norm_eps)?;
    let fed = mlp(ops, layout, config, &normed)?;
    ops.add(&x, &fed)
}

/// The heads' values, each mixed of what its token sees.
fn attention<O: Ops>(
    ops: &mut O,
    layout: &Layout,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    let heads = (config.heads, config.kv_heads);
    let qkv = layout.qkv.forward(ops, x, qkv_sizes(config))?;
    let q = ops.rope(&qkv[0], &context.rope, heads.0)?;
    let k = ops.rope(&qkv[1], &context.rope, heads.1)?;
    ops.attention(&q, &k, &qkv[2], Some(&context.mask), heads)
}

fn mlp<O: Ops>(ops: &mut O, layout: &Layout, config: &TextConfig, x: &O::T) -> Result<O::T> {
    let hidden = match &layout.gate_up {
        Projections::Apart { names, bias } => ops.gated_linear(*names, x, *bias),
        packed @ Projections::Packed { .. } => {
            let parts = packed.forward(ops, x, [config.ffn; 2])?;
            ops.gated(&parts[0], &parts[1])
        }
    }?;
    let Linear { name, bias } = layout.down;
    ops.linear(name, &hidden, bias)
}

fn qkv_sizes(config: &TextConfig) -> [usize; 3] {
    let kv = config.kv_heads * config.head_dim();
    [config.hidden, kv, kv]
}

/// The full name of the output projection.
pub(super) fn output(layout: &Layout) -> String {
    format!("{}.{}.weight", Part::Language.module(), layout.output)
}

/// The full name of the token embeddings.
pub(super) fn embeddings(layout: &Layout) -> String {
    format!("{}.{}.weight", Part::Language.module(), layout.embeddings)
}

/// Lists the tensors of the part.
pub(super) fn parameters(layout: &Layout, config: &TextConfig, list: &mut Inventory) {
    let (width, table) = (config.hidden, [config.vocabulary, config.hidden]);
    list.part(Part::Language);
    let embeddings = format!("{}.weight", layout.embeddings);
    list.add(embeddings, Kind::TokenEmbedding, &table);
    for index in 0..config.layers {
        list.block(&format!("model.{BLOCKS}"), index, |list| {
            block_parameters(layout, config, list);
        });
    }
    list.rms_norm("model.norm", width);
    let output = format!("{}.weight", layout.output);
    if config.tied_embeddings {
        list.optional(output, Kind::OutputProjection, &table);
    } else {
        list.add(output, Kind::OutputProjection, &table);
    }
}

fn block_parameters(layout: &Layout, config: &TextConfig, list: &mut Inventory) {
    use AttentionLinear::{Key, Output, Query, Value};
    use MlpLinear::{Down, Gate, Up};
    let (width, ffn) = (config.hidden, config.ffn);
    list.rms_norm(layout.attention_norm, width);
    list.rms_norm(layout.mlp_norm, width);
    let kinds = (
        [Query, Key, Value].map(Kind::Attention),
        Kind::Attention(AttentionLinear::Packed),
    );
    layout.qkv.parameters(list, width, qkv_sizes(config), kinds);
    let kinds = ([Gate, Up].map(Kind::Mlp), Kind::Mlp(MlpLinear::Packed));
    layout.gate_up.parameters(list, width, [ffn; 2], kinds);
    let Linear { name, bias } = layout.attention_output;
    list.linear(name, Kind::Attention(Output), &[width, width], bias);
    let Linear { name, bias } = layout.down;
    list.linear(name, Kind::Mlp(Down), &[width, ffn], bias);
}
