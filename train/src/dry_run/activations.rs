//! What passes keep for their gradients, estimated from the sizes of a model and of its largest batch.
//!
//! Counted are the values that LibTorch's graph holds, in bytes, with e those of an element in the run's precision. Norms
//! run in fp32, so that an RMS norm of width w keeps its input and what it is scaled to, 8·w, and a layer norm 4·w, plus
//! the e·w that the linear layers after it read. A token's way through one layer keeps
//!
//! - of a language model of width h with an MLP of width f: two RMS norms, queries, keys, values and their mixture
//!   (4·e·h; keys are repeated for every query head), and gate, SiLU, up and product (4·e·f): in fp32 40·h + 16·f, in bf16
//!   28·h + 8·f;
//! - of a vision model of width v with an MLP of width g: two norms, the same four (4·e·v), both inputs of layer scale
//!   (2·e·v), the MLP before and after its activation (2·e·g): in fp32, with layer norms, 40·v + 8·g, in bf16 24·v + 4·g.
//!
//! Less where weights are frozen, whose linear layers need no input again; more with low-rank additions, which keep theirs
//! and what dropout leaves of it. The last layer of the language model runs its MLP where something is read alone, unless
//! rewards are computed at every token. To this come the tree mask, e · tokens² of every row; the projector; weights
//! rounded to bf16; and at the time of the peak what the backward pass itself holds of one layer, or of the logits.
//!
//! Where a step accumulates, the embedding table's gradient is made whole, 4 bytes an element, before it is added to that
//! of the batches before, when little else is left.
//!
//! With activation checkpointing every layer keeps its input alone, and one at a time all of the above.
//!
//! Passes without gradients, such as those of a frozen vision model, are not counted: what they hold is free again before
//! the peak. Nor are freed blocks that the C library's heap does not give back: 0.6 to 0.7 GB on the CPU, as was seen of four
//! layers of InternVL2-1B's widths by a run with and one without `MALLOC_MMAP_THRESHOLD_=65536` in the environment.
//! `tests/run/activations.rs` holds the estimate against what the process was seen to take.

use std::ops::Add;

use seeward_models::config::{Config as ModelConfig, TextConfig, VisionConfig, VisionNorm};
use seeward_models::net::{self, Kind, Part};

use crate::config::{Algorithm, Config};
use crate::dry_run::batch_shape::BatchShape;
use crate::libtorch::lora;
use crate::libtorch::precision::Precision;
use crate::model::branch_source::BranchSource;
use crate::model::trainable::trains;

/// Bytes of an element of what norms and losses compute in, whatever the run's precision.
const FP32: usize = 4;

/// Bytes that a pass holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// From the forward pass to the backward pass.
    kept: usize,
    /// For a moment of the backward pass.
    passing: usize,
}

impl Add for Held {
    type Output = Self;

    /// Of two parts whose moments are different ones.
    fn add(self, other: Self) -> Self {
        Self {
            kept: self.kept + other.kept,
            passing: self.passing.max(other.passing),
        }
    }
}

/// The sizes of a branch's layers that matter.
pub(crate) struct Activations {
    checkpointing: bool,
    /// Whether rewards are computed at every token.
    every_token: bool,
    decoder: Stack,
    encoder: Stack,
    /// Tokens of a tile in the vision model.
    patches: usize,
    /// Bytes that the projector keeps of a tile.
    projector: usize,
    /// Bytes of an element of the mask.
    mask: usize,
    /// Bytes of a target's logits.
    logits: usize,
    /// Bytes of the embedding table's gradient, if it has a second one.
    table: usize,
}

/// The layers of one part.
#[derive(Default)]
struct Stack {
    /// Those that gradients pass.
    layers: usize,
    /// Bytes of a token on its way in.
    input: usize,
    /// Bytes that the first half of a layer keeps of a token.
    attention: usize,
    /// Bytes that the second half keeps.
    mlp: usize,
    /// Bytes of a token that the backward pass of the second half holds on top.
    passing: usize,
    /// Bytes of a layer's rounded weights.
    rounded: usize,
}

/// The most that a pass of these branches holds above weights, gradients and optimizer state, in bytes, each branch reading
/// its extent.
pub(crate) fn peak<'a>(branches: impl Iterator<Item = (&'a Activations, BatchShape)>) -> usize {
    let (mut held, mut around, mut table) = (Held::default(), 0, 0);
    for (activations, extent) in branches {
        held = held + activations.held(extent);
        around += activations.around(extent);
        table = table.max(activations.table);
    }
    (held.kept + held.passing).max(around + table)
}

impl Activations {
    /// Of one of a run's branches.
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
        let parameters = net::parameters(model, source.branch);
        let tables = parameters.iter().filter(|p| p.kind == Kind::TokenEmbedding);
        let adds = config.gradient_accumulation_steps > 1
            && tables.into_iter().any(|table| trains(config, model, table));
        Self {
            checkpointing: config.grad_checkpoint,
            every_token: !config.share_computation && config.algorithm != Algorithm::Sft,
            table: usize::from(adds) * FP32 * model.text.vocabulary * model.text.hidden,
            decoder: text.decoder(&model.text, images_learn),
            encoder,
            patches: model.patches_per_side().pow(2) + 1,
            projector: projected,
            mask: text.element,
            logits: targets_bytes,
        }
    }

    /// Activations outside the layers.
    fn around(&self, extent: BatchShape) -> usize {
        extent.tiles * self.projector + extent.mask * self.mask
    }

    fn held(&self, extent: BatchShape) -> Held {
        let BatchShape { tokens, tiles, .. } = extent;
        let stack = |stack: &Stack, tokens, last| match self.checkpointing {
            true => stack.checkpointed(tokens),
            false => stack.whole(tokens, last),
        };
        let around = Held {
            kept: self.around(extent),
            passing: extent.targets * self.logits,
        };
        let patches = tiles * self.patches;
        let read = match self.every_token {
            true => tokens,
            false => extent.targets,
        };
        around + stack(&self.decoder, tokens, read) + stack(&self.encoder, patches, patches)
    }
}

impl Stack {
    /// The second half of the last layer sees `last` of the tokens.
    fn whole(&self, tokens: usize, last: usize) -> Held {
        let before = self.layers.saturating_sub(1);
        let last = self.layers.min(1) * (tokens * self.attention + last * self.mlp);
        Held {
            kept: before * tokens * (self.attention + self.mlp) + last + self.layers * self.rounded,
            passing: self.layers.min(1) * tokens * self.passing,
        }
    }

    fn checkpointed(&self, tokens: usize) -> Held {
        let one = self.attention + self.mlp + self.passing;
        Held {
            kept: self.layers * tokens * self.input,
            passing: self.layers.min(1) * (tokens * one + self.rounded),
        }
    }
}

/// What trains of a part of a branch.
struct Trained {
    /// Bytes of an element in the run's precision.
    element: usize,
    /// Whether any of its tensors trains, additions included.
    trains: bool,
    /// Whether the layers' own weights train.
    own: bool,
    /// The first layer that trains.
    first: usize,
    /// Bytes a token that the additions keep in the first and in the second half of a layer.
    additions: [usize; 2],
    /// Bytes of a layer's rounded weights.
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
        let adapted = lora::layers(config, &source.config);
        let adapted: Vec<_> = adapted
            .iter()
            .filter(|layer| (layer.parameter.part, layer.parameter.layer) == (part, Some(0)))
            .collect();
        // What stands before the layers is an input to all of them.
        let whole = of_layers.len() < trained.len() || !adapted.is_empty();
        let first = of_layers.iter().map(|(layer, _)| *layer).min();
        Self {
            element,
            trains: !trained.is_empty() || !adapted.is_empty(),
            own: !of_layers.is_empty(),
            first: if whole { 0 } else { first.unwrap_or(0) },
            additions: [true, false].map(|first_half| {
                let half = adapted.iter().filter(|layer| {
                    matches!(layer.parameter.kind, Kind::Attention(_)) == first_half
                });
                half.map(|layer| addition(config, layer.input as usize) * element)
                    .sum()
            }),
            rounded: if element < FP32 {
                element * elements
            } else {
                0
            },
        }
    }

    /// `images_learn`: gradients pass it towards the images whatever trains in it.
    fn decoder(&self, text: &TextConfig, images_learn: bool) -> Stack {
        if !self.trains && !images_learn {
            return Stack::default();
        }
        let (e, h, f) = (self.element, text.hidden, text.ffn);
        let mlp = (3 + usize::from(self.own)) * e * f;
        Stack {
            layers: text.layers,
            input: e * h,
            attention: self.rms_norm(h) + 4 * e * h + self.additions[0],
            mlp: self.rms_norm(h) + mlp + self.additions[1],
            passing: 2 * e * f,
            rounded: self.rounded,
        }
    }

    fn encoder(&self, vision: &VisionConfig) -> Stack {
        if !self.trains {
            return Stack::default();
        }
        let (e, v, g) = (self.element, vision.hidden, vision.ffn);
        let own = usize::from(self.own);
        let norm = match vision.norm {
            VisionNorm::Layer => FP32 * v + own * e * v,
            VisionNorm::Rms => self.rms_norm(v),
        };
        let of_queries_and_keys = usize::from(vision.qk_norm) * 2 * (1 + own) * FP32 * v;
        Stack {
            layers: vision.layers_run.saturating_sub(self.first),
            input: e * v,
            attention: norm + of_queries_and_keys + (4 + own) * e * v + self.additions[0],
            mlp: norm + e * g + own * e * (g + v) + self.additions[1],
            passing: 2 * e * g,
            rounded: self.rounded,
        }
    }

    /// Bytes of a tile.
    fn projector(&self, model: &ModelConfig, vision: &VisionConfig) -> usize {
        let (e, own) = (self.element, usize::from(self.trains));
        let (width, hidden) = (vision.hidden * model.shuffle.pow(2), model.text.hidden);
        let of_token = (FP32 + own * e) * width + (1 + own) * e * hidden;
        model.tokens_per_tile() * of_token
    }

    /// Its input, what that is scaled to, and its output, which the layers after it read.
    fn rms_norm(&self, width: usize) -> usize {
        match self.own {
            true => 2 * FP32 * width + self.element * width,
            false => FP32 * width,
        }
    }
}

/// Elements that an addition keeps of a token: its input, with dropout also which of it is left, and A's product.
fn addition(config: &Config, input: usize) -> usize {
    let dropped = usize::from(config.lora_dropout > 0.0);
    (1 + dropped) * input + config.lora_r
}
