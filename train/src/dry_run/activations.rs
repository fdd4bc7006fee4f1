//! The memory of activations, estimated from the sizes of a model and of its largest batch.
//!
//! The estimate counts the values that LibTorch's autograd graph stores, in bytes; e is the size of an element in the
//! run's precision. Norms run in fp32: an RMS norm of width w stores its input and the normalised input, 8·w, a layer
//! norm stores 4·w, and the linear layers that follow store their input, e·w. Per token, one layer stores
//!
//! - in a language model of width h with an MLP of width f and heads of width a in total: two RMS norms; queries, keys,
//!   values and attention output (4·e·a; keys are repeated for every query head); gate, SiLU, up projection and their
//!   product (4·e·f). In fp32 with a = h these are 40·h + 16·f, in bf16 28·h + 8·f. Norms of queries and keys add theirs;
//! - in a vision model of width v with an MLP of width g: two norms; the same four (4·e·v); both inputs of layer scale
//!   (2·e·v); the MLP before and after its activation (2·e·g). In fp32, with layer norms, these are 40·v + 8·g, in
//!   bf16 24·v + 4·g.
//!
//! Frozen weights reduce this, since their linear layers do not store their input. LoRA layers add their input and its
//! dropout mask. The last layer of the language model runs its MLP only at positions that are read, unless rewards are
//! computed at every token. In addition there are the tree mask, e · tokens² of every row; the projector; weights
//! rounded to bf16; and, at the peak, the temporaries of one layer's backward pass, or of the logits.
//!
//! With gradient accumulation the embedding table's gradient is computed in full, 4 bytes per element, before it is
//! added to that of earlier batches, at a time when few other activations are left.
//!
//! With activation checkpointing every layer stores its input only, and one layer at a time stores all of the above.
//!
//! Passes without gradients, such as those of a frozen vision model, are not counted: their memory is free again
//! before the peak. Freed blocks that the C library's heap does not return are not counted either: 0.6 to 0.7 GB on
//! the CPU, measured on four layers of InternVL2-1B's widths as the difference between runs with and without
//! `MALLOC_MMAP_THRESHOLD_=65536` in the environment. `tests/run/activations.rs` compares the estimate with the memory
//! of the process.

use std::ops::Add;

use seeward_models::config::{
    Config as ModelConfig, InternVitConfig, QwenGeneration, QwenVisionConfig,
};
use seeward_models::config::{TextConfig, VisionConfig, VisionNorm};
use seeward_models::net::{self, Kind, Part};

use crate::config::{Algorithm, Config};
use crate::dry_run::batch_shape::BatchShape;
use crate::libtorch::lora;
use crate::libtorch::precision::Precision;
use crate::model::branch_source::BranchSource;
use crate::model::trainable::trains;

/// Bytes of an fp32 element: norms and losses compute in fp32 in every precision.
const FP32: usize = 4;

/// Memory of a pass in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PassMemory {
    /// Stored from the forward pass to the backward pass.
    stored: usize,
    /// Temporaries of the backward pass.
    temporary: usize,
}

impl Add for PassMemory {
    type Output = Self;

    /// The memory of two parts whose temporaries are not alive at the same time.
    fn add(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            temporary: self.temporary.max(other.temporary),
        }
    }
}

/// The activation sizes of a branch.
pub(crate) struct Activations {
    checkpointing: bool,
    /// Whether rewards are computed at every token.
    every_token: bool,
    decoder: Stack,
    encoder: Stack,
    /// Tokens of a tile in the vision model.
    patches: usize,
    /// Bytes that the projector stores per tile.
    projector: usize,
    /// Bytes of an element of the tree mask.
    mask: usize,
    /// Bytes of the logits per target.
    logits: usize,
    /// Bytes of the embedding table's gradient, if a second copy exists during accumulation.
    table: usize,
}

/// The layers of one part of the network.
#[derive(Default)]
struct Stack {
    /// Number of layers in the backward pass.
    layers: usize,
    /// Bytes of a layer's input per token.
    input: usize,
    /// Bytes that attention, the first half of a layer, stores per token.
    attention: usize,
    /// Bytes that the MLP, the second half, stores per token.
    mlp: usize,
    /// Bytes of temporaries per token in the backward pass of the MLP.
    temporary: usize,
    /// Bytes of a layer's weights, rounded to bf16.
    rounded: usize,
}

/// Peak memory in bytes of a pass of these branches with their batch shapes, in addition to weights, gradients and
/// optimizer state.
pub(crate) fn peak<'a>(branches: impl Iterator<Item = (&'a Activations, BatchShape)>) -> usize {
    let (mut total, mut around, mut table) = (PassMemory::default(), 0, 0);
    for (activations, shape) in branches {
        total = total + activations.memory(shape);
        around += activations.around(shape);
        table = table.max(activations.table);
    }
    (total.stored + total.temporary).max(around + table)
}

impl Activations {
    /// The sizes of one branch of a run.
    pub(crate) fn new(config: &Config, source: &BranchSource) -> Self {
        let part = |part| Trained::of(config, source, part);
        let (vision, projector, text) = (
            part(Part::Vision),
            part(Part::Projector),
            part(Part::Language),
        );
        let model = &source.config;
        let encoder = match &model.vision {
            Some(sizes) => vision.encoder(sizes),
            None => Stack::default(),
        };
        let images_learn = encoder.layers > 0 || projector.trains;
        let projected = match &model.vision {
            Some(sizes) if images_learn => projector.projector(model, sizes),
            _ => 0,
        };
        let targets_bytes = match config.algorithm {
            Algorithm::Sft => 3 * FP32 * model.text.vocabulary,
            _ => 0,
        };
        Self {
            checkpointing: config.grad_checkpoint,
            every_token: !config.share_computation && config.algorithm != Algorithm::Sft,
            table: table_gradient(config, source),
            decoder: text.decoder(&model.text, images_learn),
            encoder,
            patches: model.patches_per_unit(),
            projector: projected,
            mask: text.element,
            logits: targets_bytes,
        }
    }

    /// Bytes that are stored outside the layers.
    fn around(&self, shape: BatchShape) -> usize {
        shape.units * self.projector + shape.mask * self.mask
    }

    fn memory(&self, shape: BatchShape) -> PassMemory {
        let BatchShape { tokens, units, .. } = shape;
        let stack = |stack: &Stack, tokens, last| match self.checkpointing {
            true => stack.checkpointed(tokens),
            false => stack.whole(tokens, last),
        };
        let around = PassMemory {
            stored: self.around(shape),
            temporary: shape.targets * self.logits,
        };
        let patches = units * self.patches;
        let read = match self.every_token {
            true => tokens,
            false => shape.targets,
        };
        around + stack(&self.decoder, tokens, read) + stack(&self.encoder, patches, patches)
    }
}

impl Stack {
    /// The memory without checkpointing; the MLP of the last layer runs on `last` of the tokens.
    fn whole(&self, tokens: usize, last: usize) -> PassMemory {
        let before = self.layers.saturating_sub(1);
        let last = self.layers.min(1) * (tokens * self.attention + last * self.mlp);
        PassMemory {
            stored: before * tokens * (self.attention + self.mlp)
                + last
                + self.layers * self.rounded,
            temporary: self.layers.min(1) * tokens * self.temporary,
        }
    }

    /// The memory with checkpointing.
    fn checkpointed(&self, tokens: usize) -> PassMemory {
        let one = self.attention + self.mlp + self.temporary;
        PassMemory {
            stored: self.layers * tokens * self.input,
            temporary: self.layers.min(1) * (tokens * one + self.rounded),
        }
    }
}

/// The trainable tensors of one part of a branch.
struct Trained {
    /// Bytes of an element in the run's precision.
    element: usize,
    /// Whether any tensor trains, including LoRA.
    trains: bool,
    /// Whether the layers' weights train, LoRA not included.
    weights: bool,
    /// The first layer that trains.
    first: usize,
    /// Bytes that LoRA stores per token in the first and in the second half of a layer.
    lora: [usize; 2],
    /// Bytes of a layer's weights, rounded to bf16.
    rounded: usize,
}

impl Trained {
    fn of(config: &Config, source: &BranchSource, part: Part) -> Self {
        let element = Precision::of(config).dtype().size();
        let trained: Vec<_> = net::parameters(&source.config, source.branch)
            .into_iter()
            .filter(|p| p.part == part && trains(config, &source.config, p))
            .collect();
        let of_layers: Vec<_> = trained
            .iter()
            .filter_map(|p| Some((p.layer?, p.shape.iter().product::<usize>())))
            .collect();
        let last = of_layers.iter().map(|(layer, _)| *layer).max();
        let in_last = of_layers.iter().filter(|(layer, _)| Some(*layer) == last);
        let elements: usize = in_last.map(|(_, elements)| elements).sum();
        let lora = lora_elements(config, source, part);
        let has_lora = lora != [0; 2];
        // Tensors before the layers feed all of them.
        let whole = of_layers.len() < trained.len() || has_lora;
        let first = of_layers.iter().map(|(layer, _)| *layer).min();
        Self {
            element,
            trains: !trained.is_empty() || has_lora,
            weights: !of_layers.is_empty(),
            first: if whole { 0 } else { first.unwrap_or(0) },
            lora: lora.map(|elements| elements * element),
            rounded: if element < FP32 {
                element * elements
            } else {
                0
            },
        }
    }

    /// The language model's layers. With `images_learn` gradients pass through them to the images, even if they are
    /// frozen.
    fn decoder(&self, text: &TextConfig, images_learn: bool) -> Stack {
        if !self.trains && !images_learn {
            return Stack::default();
        }
        let (e, h, f) = (self.element, text.hidden, text.ffn);
        let heads = 4 * e * text.attention_width() + self.head_norms(text);
        let mlp = (3 + usize::from(self.weights)) * e * f;
        Stack {
            layers: text.layers,
            input: e * h,
            attention: self.rms_norm(h) + heads + self.lora[0],
            mlp: self.rms_norm(h) + mlp + self.lora[1],
            temporary: 2 * e * f,
            rounded: self.rounded,
        }
    }

    /// Bytes that norms of queries and keys store.
    fn head_norms(&self, text: &TextConfig) -> usize {
        let own = usize::from(self.weights);
        let width = text.attention_width() + text.key_width();
        usize::from(text.has_head_norms()) * (1 + own) * FP32 * width
    }

    /// The vision model's layers.
    fn encoder(&self, vision: &VisionConfig) -> Stack {
        match vision {
            _ if !self.trains => Stack::default(),
            VisionConfig::InternVit(vision) => self.intern_vit(vision),
            VisionConfig::Qwen(vision) => self.qwen_vit(vision),
        }
    }

    fn intern_vit(&self, vision: &InternVitConfig) -> Stack {
        let (e, v, g) = (self.element, vision.hidden, vision.ffn);
        let own = usize::from(self.weights);
        let norm = match vision.norm {
            VisionNorm::Layer => self.layer_norm(v),
            VisionNorm::Rms => self.rms_norm(v),
        };
        let of_queries_and_keys = usize::from(vision.qk_norm) * 2 * (1 + own) * FP32 * v;
        Stack {
            layers: vision.layers_run.saturating_sub(self.first),
            input: e * v,
            attention: norm + of_queries_and_keys + (4 + own) * e * v + self.lora[0],
            mlp: norm + e * g + own * e * (g + v) + self.lora[1],
            temporary: 2 * e * g,
            rounded: self.rounded,
        }
    }

    fn qwen_vit(&self, vision: &QwenVisionConfig) -> Stack {
        let (e, v, g) = (self.element, vision.hidden, vision.ffn);
        let own = usize::from(self.weights);
        let (norm, hidden) = match vision.generation {
            QwenGeneration::Qwen2_5 => (self.rms_norm(v), (3 + own) * e * g),
            // The approximation by a sigmoid has a gate.
            QwenGeneration::Qwen2 => (self.layer_norm(v), (3 + own) * e * g),
            QwenGeneration::Qwen3 => (self.layer_norm(v), (1 + own) * e * g),
        };
        Stack {
            layers: vision.layers.saturating_sub(self.first),
            input: e * v,
            attention: norm + (4 + own) * e * v + self.lora[0],
            mlp: norm + hidden + self.lora[1],
            temporary: 2 * e * g,
            rounded: self.rounded,
        }
    }

    /// Bytes that the projector stores per unit of an image.
    fn projector(&self, model: &ModelConfig, vision: &VisionConfig) -> usize {
        let (e, own) = (self.element, usize::from(self.trains));
        let (width, hidden) = match vision {
            VisionConfig::InternVit(vision) => (
                vision.hidden * vision.shuffle.side.pow(2),
                model.text.hidden,
            ),
            VisionConfig::Qwen(vision) => {
                let joined = vision.hidden * vision.patches_per_token();
                (joined, joined)
            }
        };
        let of_token = (FP32 + own * e) * width + (1 + own) * e * hidden;
        model.tokens_per_tile() * of_token * (1 + model.deepstack())
    }

    /// Bytes of input and, for a trained norm, of output, which is the input of the linear layers that follow.
    fn layer_norm(&self, width: usize) -> usize {
        FP32 * width + usize::from(self.weights) * self.element * width
    }

    /// Bytes of input, normalised input, and output, which is the input of the linear layers that follow.
    fn rms_norm(&self, width: usize) -> usize {
        match self.weights {
            true => 2 * FP32 * width + self.element * width,
            false => FP32 * width,
        }
    }
}

/// Bytes of the embedding table's gradient, if the table trains and gradients accumulate.
fn table_gradient(config: &Config, source: &BranchSource) -> usize {
    let model = &source.config;
    let parameters = net::parameters(model, source.branch);
    let mut tables = parameters.iter().filter(|p| p.kind == Kind::TokenEmbedding);
    let accumulates =
        config.gradient_accumulation_steps > 1 && tables.any(|table| trains(config, model, table));
    usize::from(accumulates) * FP32 * model.text.vocabulary * model.text.hidden
}

/// Elements that the LoRA layers of a part store per token, in the first and in the second half of a layer: their
/// input, a mask with dropout, and the product with A.
fn lora_elements(config: &Config, source: &BranchSource, part: Part) -> [usize; 2] {
    let stored_inputs = 1 + usize::from(config.lora_dropout > 0.0);
    let mut halves = [0; 2];
    for layer in lora::layers(config, &source.config) {
        let parameter = &layer.parameter;
        if (parameter.part, parameter.layer) == (part, Some(0)) {
            let half = usize::from(!matches!(parameter.kind, Kind::Attention(_)));
            halves[half] += stored_inputs * layer.input as usize + config.lora_r;
        }
    }
    halves
}
