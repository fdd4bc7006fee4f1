//! The language model, from token embeddings to the hidden states after the last norm: pre-norm layers of grouped-query
//! attention over rotary positions and a gated SiLU MLP. The family's layout names its tensors.

use super::ops::{Bias, Ops};
use super::part::{AttentionLinear, Inventory, Kind, MlpLinear, Part};
use crate::Result;
use crate::config::TextConfig;
use crate::family::{Linear, LinearBias, Packing, Projections};

const BLOCKS: &str = "layers";

/// The inputs that all layers share.
pub(super) struct Context<O: Ops> {
    pub(super) mask: O::Mask,
    pub(super) rope: O::Rope,
}

/// Image embeddings that the first layers add to their outputs.
pub(super) struct AddedImages<O: Ops> {
    /// For each of the layers, `[n, width]`.
    pub(super) parts: Vec<O::T>,
    /// Flat indices of the image tokens, `[n]`.
    pub(super) at: O::T,
}

impl<O: Ops> AddedImages<O> {
    /// The output `x` of the layer `index`, with its images added.
    fn add(&self, ops: &mut O, index: usize, x: O::T) -> Result<O::T> {
        let Some(part) = self.parts.get(index) else {
            return Ok(x);
        };
        let there = ops.gather_rows(&x, &self.at)?;
        let sum = ops.add(&there, part)?;
        ops.scatter_rows(&x, &sum, &self.at)
    }
}

// Derived, Clone would be required of the interpreter itself.
impl<O: Ops> Clone for Context<O> {
    fn clone(&self) -> Self {
        Self {
            mask: self.mask.clone(),
            rope: self.rope.clone(),
        }
    }
}

impl LinearBias {
    fn of(self, config: &TextConfig) -> Bias {
        match self {
            Self::None => Bias::No,
            Self::Attention => Bias::when(config.attention_bias),
            Self::Mlp => Bias::when(config.mlp_bias),
        }
    }
}

impl Packing {
    /// The number of runs, each with its share of every projection.
    fn groups(self, config: &TextConfig) -> usize {
        match self {
            Self::OneByOne => 1,
            Self::ByKeyHead => config.kv_heads,
        }
    }
}

impl<const N: usize> Projections<N> {
    /// x → the projections, `sizes` wide.
    fn forward<O: Ops>(
        &self,
        ops: &mut O,
        config: &TextConfig,
        x: &O::T,
        sizes: [usize; N],
    ) -> Result<Vec<O::T>> {
        match self {
            Self::Separate { names, bias } => {
                let bias = bias.of(config);
                let mut linear = |name: &&str| ops.linear(name, x, bias);
                names.iter().map(&mut linear).collect()
            }
            Self::Packed {
                name,
                packing,
                bias,
            } => {
                let groups = packing.groups(config);
                let packed = ops.linear(name, x, bias.of(config))?;
                ops.split(&packed, groups, &sizes.map(|size| size / groups))
            }
        }
    }

    /// Lists the tensors; `kinds` are those of the projections, and of all of them packed.
    fn parameters(
        &self,
        list: &mut Inventory,
        config: &TextConfig,
        sizes: [usize; N],
        (kinds, packed): ([Kind; N], Kind),
    ) {
        let input = config.hidden;
        match self {
            Self::Separate { names, bias } => {
                for ((name, kind), size) in names.iter().zip(kinds).zip(sizes) {
                    list.linear(name, kind, &[size, input], bias.of(config));
                }
            }
            Self::Packed { name, bias, .. } => {
                let size = sizes.iter().sum();
                list.linear(name, packed, &[size, input], bias.of(config));
            }
        }
    }
}

impl Linear {
    fn forward<O: Ops>(&self, ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
        ops.linear(self.name, x, self.bias.of(config))
    }

    fn parameters(&self, list: &mut Inventory, config: &TextConfig, kind: Kind, input: usize) {
        let shape = [config.hidden, input];
        list.linear(self.name, kind, &shape, self.bias.of(config));
    }
}

/// Token ids [rows, tokens] → embeddings [rows, tokens, width].
pub(super) fn embed<O: Ops>(ops: &mut O, config: &TextConfig, ids: &O::T) -> Result<O::T> {
    ops.scope(Part::Language.module(), |ops| {
        ops.embedding(config.family.layout().embeddings, ids)
    })
}

/// Embeddings, images in place → hidden states after the last norm: at flat indices `at` [k] → [k, width], or everywhere.
pub(super) fn decode<O: Ops + 'static>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
    images: &AddedImages<O>,
    at: Option<&O::T>,
) -> Result<O::T> {
    // A last layer that adds images computes all rows.
    let reads_last = images.parts.len() < config.layers;
    let hidden = ops.scope(&format!("{}.model", Part::Language.module()), |ops| {
        let mut x = x.clone();
        for index in 0..config.layers {
            let (config, context) = (config.clone(), context.clone());
            // The last layer computes only the rows that are read.
            let is_last = index + 1 == config.layers;
            let read = at.filter(|_| is_last && reads_last).cloned();
            x = ops.block(&format!("{BLOCKS}.{index}"), &x, move |ops, x| {
                layer(ops, &config, x, &context, read.as_ref())
            })?;
            x = images.add(ops, index, x)?;
        }
        ops.rms_norm("norm", &x, config.norm_eps)
    })?;
    match at.filter(|_| !reads_last) {
        Some(at) => ops.gather_rows(&hidden, at),
        None => Ok(hidden),
    }
}

/// Hidden states [k, width] → logits [k, vocabulary]. The output projection of a tied model is its embedding table.
pub(super) fn logits<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
    let layout = config.family.layout();
    let output = if config.tied_embeddings {
        layout.embeddings
    } else {
        layout.output
    };
    ops.scope(Part::Language.module(), |ops| {
        ops.linear(output, x, Bias::No)
    })
}

/// One layer: all tokens, or, flattened to [k, width], those at the flat indices `read`. All are attended to in any case.
fn layer<O: Ops>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
    read: Option<&O::T>,
) -> Result<O::T> {
    let layout = config.family.layout();
    let normed = ops.rms_norm(layout.attention_norm, x, config.norm_eps)?;
    let mixed = attention(ops, config, &normed, context)?;
    let Some(at) = read else {
        return after_attention(ops, config, x, &mixed);
    };
    ops.readout(|ops| {
        let (x, mixed) = (ops.gather_rows(x, at)?, ops.gather_rows(&mixed, at)?);
        after_attention(ops, config, &x, &mixed)
    })
}

/// The rest of a layer, row by row: attention's output projection and the MLP.
fn after_attention<O: Ops>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    mixed: &O::T,
) -> Result<O::T> {
    let layout = config.family.layout();
    let attended = layout.attention_output.forward(ops, config, mixed)?;
    let x = ops.add(x, &attended)?;
    let normed = ops.rms_norm(layout.mlp_norm, &x, config.norm_eps)?;
    let fed = mlp(ops, config, &normed)?;
    ops.add(&x, &fed)
}

/// Attention over the visible tokens, before the output projection.
fn attention<O: Ops>(
    ops: &mut O,
    config: &TextConfig,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    let heads = (config.heads, config.kv_heads);
    let layout = config.family.layout();
    let mut qkv = layout.qkv.forward(ops, config, x, qkv_sizes(config))?;
    if let Some([q_norm, k_norm]) = layout.head_norms {
        qkv[0] = ops.rms_norm_heads(q_norm, &qkv[0], heads.0, config.norm_eps)?;
        qkv[1] = ops.rms_norm_heads(k_norm, &qkv[1], heads.1, config.norm_eps)?;
    }
    let q = ops.rope(&qkv[0], &context.rope, heads.0)?;
    let k = ops.rope(&qkv[1], &context.rope, heads.1)?;
    ops.attention(&q, &k, &qkv[2], Some(&context.mask), heads)
}

fn mlp<O: Ops>(ops: &mut O, config: &TextConfig, x: &O::T) -> Result<O::T> {
    let layout = config.family.layout();
    let hidden = match &layout.gate_up {
        Projections::Separate { names, bias } => ops.gated_linear(*names, x, bias.of(config)),
        packed @ Projections::Packed { .. } => {
            let parts = packed.forward(ops, config, x, [config.ffn; 2])?;
            ops.gated(&parts[0], &parts[1])
        }
    }?;
    layout.down.forward(ops, config, &hidden)
}

fn qkv_sizes(config: &TextConfig) -> [usize; 3] {
    let kv = config.key_width();
    [config.attention_width(), kv, kv]
}

/// The name of the token embeddings' tensor [vocabulary, width].
pub fn token_embeddings(config: &TextConfig) -> String {
    full_name(config.family.layout().embeddings)
}

/// The name of the output projection's tensor [vocabulary, width]; a checkpoint may lack it.
pub fn output_projection(config: &TextConfig) -> String {
    full_name(config.family.layout().output)
}

fn full_name(layer: &str) -> String {
    format!("{}.{layer}.weight", Part::Language.module())
}

/// Lists the tensors of the part.
pub(super) fn parameters(config: &TextConfig, list: &mut Inventory) {
    let (layout, table) = (config.family.layout(), [config.vocabulary, config.hidden]);
    list.part(Part::Language);
    let embeddings = format!("{}.weight", layout.embeddings);
    list.add(embeddings, Kind::TokenEmbedding, &table);
    for index in 0..config.layers {
        list.block(&format!("model.{BLOCKS}"), index, |list| {
            block_parameters(config, list);
        });
    }
    list.rms_norm("model.norm", config.hidden);
    let output = format!("{}.weight", layout.output);
    // No reward passes it; training on next tokens asks for it.
    list.optional(output, Kind::OutputProjection, &table);
}

fn block_parameters(config: &TextConfig, list: &mut Inventory) {
    use AttentionLinear::{Key, Output, Query, Value};
    use MlpLinear::{Down, Gate, Up};
    let (layout, width) = (config.family.layout(), config.hidden);
    list.rms_norm(layout.attention_norm, width);
    list.rms_norm(layout.mlp_norm, width);
    for name in layout.head_norms.into_iter().flatten() {
        list.rms_norm(name, config.head_dim);
    }
    let separate = [Query, Key, Value].map(Kind::Attention);
    let kinds = (separate, Kind::Attention(AttentionLinear::Packed));
    let projections = &layout.qkv;
    projections.parameters(list, config, qkv_sizes(config), kinds);
    let kinds = ([Gate, Up].map(Kind::Mlp), Kind::Mlp(MlpLinear::Packed));
    let projections = &layout.gate_up;
    projections.parameters(list, config, [config.ffn; 2], kinds);
    let (output, down) = (Kind::Attention(Output), Kind::Mlp(Down));
    layout
        .attention_output
        .parameters(list, config, output, config.attention_width());
    layout.down.parameters(list, config, down, config.ffn);
}
