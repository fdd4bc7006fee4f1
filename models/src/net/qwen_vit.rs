//! The vision encoders of Qwen2-VL, Qwen2.5-VL and Qwen3-VL over the patches of a whole image, and the mergers after them.
//! Rotary positions, windows and the places of position embeddings come from the host.

use super::image_inputs::GridInputs;
use super::ops::{Activation, Bias, Ops};
use super::part::{AttentionLinear, Inventory, Kind, MlpLinear, Part};
use crate::Result;
use crate::config::{QwenGeneration, QwenVisionConfig};
use crate::image::Normalization;

const PATCH_EMBEDDING: &str = "patch_embed.proj";
const POSITION_EMBEDDING: &str = "pos_embed";
const BLOCKS: &str = "blocks";
const MERGER: &str = "merger";
/// The mergers of intermediate layers.
const MERGERS: &str = "deepstack_merger_list";

/// What the layers of a block share.
struct Context<O: Ops> {
    rope: O::Rope,
    windows: Option<O::Mask>,
}

// Derived, Clone would be required of the interpreter itself.
impl<O: Ops> Clone for Context<O> {
    fn clone(&self) -> Self {
        Self {
            rope: self.rope.clone(),
            windows: self.windows.clone(),
        }
    }
}

/// The names of a merger's tensors.
struct MergerNames {
    norm: &'static str,
    up: &'static str,
    down: &'static str,
}

impl QwenGeneration {
    fn has_patch_bias(self) -> Bias {
        Bias::when(self == Self::Qwen3)
    }

    fn merger(self) -> MergerNames {
        match self {
            Self::Qwen2 | Self::Qwen2_5 => MergerNames {
                norm: "ln_q",
                up: "mlp.0",
                down: "mlp.2",
            },
            Self::Qwen3 => MergerNames {
                norm: "norm",
                up: "linear_fc1",
                down: "linear_fc2",
            },
        }
    }

    /// The layers of an MLP that is not gated.
    fn mlp(self) -> [&'static str; 2] {
        match self {
            Self::Qwen3 => ["mlp.linear_fc1", "mlp.linear_fc2"],
            Self::Qwen2 | Self::Qwen2_5 => ["mlp.fc1", "mlp.fc2"],
        }
    }

    fn norm<O: Ops>(self, ops: &mut O, name: &str, x: &O::T) -> Result<O::T> {
        match self {
            Self::Qwen2_5 => ops.rms_norm(name, x, QwenVisionConfig::NORM_EPS),
            Self::Qwen2 | Self::Qwen3 => ops.layer_norm(name, x, QwenVisionConfig::NORM_EPS),
        }
    }

    fn norm_parameters(self, list: &mut Inventory, name: &str, width: usize) {
        match self {
            Self::Qwen2_5 => list.rms_norm(name, width),
            Self::Qwen2 | Self::Qwen3 => list.layer_norm(name, width),
        }
    }
}

/// An image's patches → hidden states [1, patches, width · (1 + deepstack)]: those after the last layer, then those after each
/// layer that is merged too.
pub(super) fn forward<O: Ops + 'static>(
    ops: &mut O,
    config: &QwenVisionConfig,
    image: &GridInputs<O::T>,
    n: Normalization,
) -> Result<O::T> {
    ops.scope(Part::Vision.module(), |ops| {
        let (x, context) = embedded(ops, config, image, n)?;
        let (mut x, mut outputs) = (x, Vec::new());
        for index in 0..config.layers {
            let (config, context) = (config.clone(), context.clone());
            let is_read = config.deepstack.contains(&index);
            x = ops.block(&format!("{BLOCKS}.{index}"), &x, move |ops, x| {
                layer(ops, &config, index, x, &context)
            })?;
            outputs.extend(is_read.then(|| x.clone()));
        }
        outputs.insert(0, x);
        ops.concatenate(&outputs)
    })
}

/// The embedded patches, and the inputs of all layers.
fn embedded<O: Ops>(
    ops: &mut O,
    config: &QwenVisionConfig,
    image: &GridInputs<O::T>,
    n: Normalization,
) -> Result<(O::T, Context<O>)> {
    let bias = config.generation.has_patch_bias();
    let mut x = ops.patch_projection(PATCH_EMBEDDING, &image.patches, bias, n)?;
    if let Some((rows, weights)) = &image.taps {
        let positions = ops.embedding_sum(POSITION_EMBEDDING, rows, weights)?;
        x = ops.add(&x, &positions)?;
    }
    let windows = image.window_ids.as_ref();
    let context = Context {
        rope: ops.rope_table(&image.rope_cos, &image.rope_sin, &image.position_ids)?,
        windows: windows.map(|ids| ops.window_mask(ids)).transpose()?,
    };
    Ok((x, context))
}

fn layer<O: Ops>(
    ops: &mut O,
    config: &QwenVisionConfig,
    index: usize,
    x: &O::T,
    context: &Context<O>,
) -> Result<O::T> {
    let (generation, depth) = (config.generation, config.layers.saturating_sub(1).max(1));
    let depth = index as f64 / depth as f64;
    let windows = match config.full_layers.contains(&index) {
        true => None,
        false => context.windows.as_ref(),
    };
    let normed = generation.norm(ops, "norm1", x)?;
    let attended = attention(ops, config, &normed, &context.rope, windows)?;
    let attended = ops.drop_path("drop_path1", depth, &attended)?;
    let x = ops.add(x, &attended)?;
    let normed = generation.norm(ops, "norm2", &x)?;
    let fed = mlp(ops, generation, &normed)?;
    let fed = ops.drop_path("drop_path2", depth, &fed)?;
    ops.add(&x, &fed)
}

fn attention<O: Ops>(
    ops: &mut O,
    config: &QwenVisionConfig,
    x: &O::T,
    rope: &O::Rope,
    windows: Option<&O::Mask>,
) -> Result<O::T> {
    let qkv = ops.linear("attn.qkv", x, Bias::Yes)?;
    let parts = ops.split(&qkv, 1, &[config.hidden; 3])?;
    let q = ops.rope(&parts[0], rope, config.heads)?;
    let k = ops.rope(&parts[1], rope, config.heads)?;
    let mixed = ops.attention(&q, &k, &parts[2], windows, (config.heads, config.heads))?;
    ops.linear("attn.proj", &mixed, Bias::Yes)
}

fn mlp<O: Ops>(ops: &mut O, generation: QwenGeneration, x: &O::T) -> Result<O::T> {
    let activation = match generation {
        QwenGeneration::Qwen2_5 => {
            let hidden = ops.gated_linear(["mlp.gate_proj", "mlp.up_proj"], x, Bias::Yes)?;
            return ops.linear("mlp.down_proj", &hidden, Bias::Yes);
        }
        QwenGeneration::Qwen2 => Activation::QuickGelu,
        QwenGeneration::Qwen3 => Activation::GeluTanh,
    };
    let [up, down] = generation.mlp();
    let hidden = ops.linear(up, x, Bias::Yes)?;
    let hidden = ops.activation(activation, &hidden)?;
    ops.linear(down, &hidden, Bias::Yes)
}

/// Hidden states of [`forward`] → image embeddings [1, tokens, text width · (1 + deepstack)].
pub(super) fn merge<O: Ops>(ops: &mut O, config: &QwenVisionConfig, x: &O::T) -> Result<O::T> {
    let parts = 1 + config.deepstack.len();
    let parts = ops.split(x, 1, &vec![config.hidden; parts])?;
    ops.scope(Part::Projector.module(), |ops| {
        let mut merged = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            merged.push(match index.checked_sub(1) {
                None => ops.scope(MERGER, |ops| merger(ops, config, part, false))?,
                Some(index) => ops.scope(&format!("{MERGERS}.{index}"), |ops| {
                    merger(ops, config, part, true)
                })?,
            });
        }
        ops.concatenate(&merged)
    })
}

/// The patches of a token side by side, normed before that or, `joined`, after it.
fn merger<O: Ops>(ops: &mut O, config: &QwenVisionConfig, x: &O::T, joined: bool) -> Result<O::T> {
    let (names, generation) = (config.generation.merger(), config.generation);
    let (count, width) = (config.patches_per_token(), config.hidden);
    let x = match joined {
        true => {
            let x = ops.merge_tokens(x, count, width)?;
            generation.norm(ops, names.norm, &x)?
        }
        false => {
            let x = generation.norm(ops, names.norm, x)?;
            ops.merge_tokens(&x, count, width)?
        }
    };
    let x = ops.gelu_linear(names.up, &x, Bias::Yes)?;
    ops.linear(names.down, &x, Bias::Yes)
}

/// Lists the tensors of the encoder.
pub(super) fn parameters(config: &QwenVisionConfig, list: &mut Inventory) {
    let (width, patch) = (config.hidden, config.patch);
    list.part(Part::Vision);
    let convolution = [width, 3, config.frames, patch, patch];
    let bias = config.generation.has_patch_bias();
    list.linear(PATCH_EMBEDDING, Kind::PatchEmbedding, &convolution, bias);
    if let Some(side) = config.table {
        let name = format!("{POSITION_EMBEDDING}.weight");
        list.add(name, Kind::PositionEmbedding, &[side * side, width]);
    }
    for index in 0..config.layers {
        list.block(BLOCKS, index, |list| block_parameters(config, list));
    }
}

fn block_parameters(config: &QwenVisionConfig, list: &mut Inventory) {
    let (generation, width, ffn) = (config.generation, config.hidden, config.ffn);
    for norm in ["norm1", "norm2"] {
        generation.norm_parameters(list, norm, width);
    }
    let [packed, output] = [AttentionLinear::Packed, AttentionLinear::Output].map(Kind::Attention);
    list.linear("attn.qkv", packed, &[3 * width, width], Bias::Yes);
    list.linear("attn.proj", output, &[width, width], Bias::Yes);
    let [gate, up, down] = [MlpLinear::Gate, MlpLinear::Up, MlpLinear::Down].map(Kind::Mlp);
    if generation == QwenGeneration::Qwen2_5 {
        list.linear("mlp.gate_proj", gate, &[ffn, width], Bias::Yes);
        list.linear("mlp.up_proj", up, &[ffn, width], Bias::Yes);
        list.linear("mlp.down_proj", down, &[width, ffn], Bias::Yes);
        return;
    }
    let [first, second] = generation.mlp();
    list.linear(first, up, &[ffn, width], Bias::Yes);
    list.linear(second, down, &[width, ffn], Bias::Yes);
}

/// Lists the tensors of the mergers.
pub(super) fn merger_parameters(config: &QwenVisionConfig, list: &mut Inventory) {
    list.part(Part::Projector);
    let joined = config.hidden * config.patches_per_token();
    let mut merger = |scope: String, norm: usize| {
        let (names, generation) = (config.generation.merger(), config.generation);
        let (up, down) = (Kind::Mlp(MlpLinear::Up), Kind::Mlp(MlpLinear::Down));
        generation.norm_parameters(list, &format!("{scope}.{}", names.norm), norm);
        let name = format!("{scope}.{}", names.up);
        list.linear(&name, up, &[joined, joined], Bias::Yes);
        let name = format!("{scope}.{}", names.down);
        list.linear(&name, down, &[config.output, joined], Bias::Yes);
    };
    merger(MERGER.to_owned(), config.hidden);
    for index in 0..config.deepstack.len() {
        merger(format!("{MERGERS}.{index}"), joined);
    }
}
