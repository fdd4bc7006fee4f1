//! The table of all config keys: name, type, default and meaning.
//!
//! Names and defaults are those of the published argument classes: InternVL's model and data arguments as the
//! shortcut-aware code has them, and the Hugging Face trainer's arguments. The last group is Seeward's own.

use std::collections::BTreeMap;

use seeward_models::kinds::HeadActivation;
use seeward_models::sample::Format;
use serde_norway::{Mapping, Value};

use super::choices::{
    Algorithm, EvalStrategy, Normalization, PixelShuffle, Resume, SaveStrategy, SchedulerKind, Sfc,
};
use super::setting::{Setting, shown};

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr;)+) => {
        /// The settings of a training run, complete and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $key: $kind,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Config {
            /// Names of all keys, in the order of the resolved config.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            /// Sets one key. The error names the expected type; `None` means an unknown key.
            pub(super) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>> {
                Some(match key {
                    $(stringify!($key) => read(value).map(|value| self.$key = value),)+
                    _ => return None,
                })
            }

            /// All keys with their values.
            pub(super) fn to_mapping(&self) -> Mapping {
                let entries = [$((Value::from(stringify!($key)), self.$key.yaml())),+];
                entries.into_iter().collect()
            }
        }
    };
}

fn read<T: Setting>(value: &Value) -> Result<T, String> {
    T::read(value).ok_or_else(|| format!("expected {}, got {}", T::expected(), shown(value)))
}

keys! {
    /// Checkpoint folder, or hub id in the local Hugging Face cache, that the main branch starts from.
    model_name_or_path: String = "OpenGVLab/InternVL2-8B".into();
    /// Checkpoint folder or hub id that the text-only branch starts from; `None` uses that of the main branch.
    bias_model_path: Option<String> = None;
    /// Training rows: JSON lines or a JSON array, plain or compressed by gzip or zstd. Required.
    dataset_path: String = String::new();
    /// Format of the training rows and of every set of `eval_data`, whatever other keys their rows have; `None` recognises
    /// the format of each file by its keys.
    dataset_format: Option<Format> = None;
    /// Folder for checkpoints, metrics and the resolved config. Required.
    output_dir: String = String::new();

    /// Name of the conversation template; `None` uses that of the checkpoint's `config.json`.
    conv_style: Option<String> = None;
    /// Nonlinearity between the layers of a score head that has several; `None` uses that of the checkpoint's `config.json`.
    head_activation: Option<HeadActivation> = None;
    /// Output of a score head with several that is the reward, counted from 0; `None` uses that of the checkpoint.
    head_output: Option<usize> = None;
    /// Place of the reward: `last`, `mean` over all tokens, or the last of this special token; `None` uses that of the
    /// checkpoint.
    reward_at: Option<String> = None;
    /// Length limit of a conversation in tokens; longer ones are cut on the right.
    max_length: usize = 8192;
    /// Freezes the language model.
    freeze_llm: bool = false;
    /// Freezes the vision model.
    freeze_backbone: bool = false;
    /// First layer of a frozen vision model that trains all the same, with all later ones; a negative index counts from
    /// the end, 0 trains none.
    unfreeze_vit_layers: i64 = 0;
    /// Trains the output projection of a language model that is frozen or has LoRA layers; only `sft` uses it.
    unfreeze_lm_head: bool = false;
    /// Freezes the projector.
    freeze_mlp: bool = false;
    /// Adds LoRA layers to the vision model.
    use_backbone_lora: bool = false;
    /// Adds LoRA layers to the language model.
    use_llm_lora: bool = false;
    /// Rank of the LoRA layers.
    lora_r: usize = 64;
    /// Scale of the LoRA layers, multiplied by their rank: the scale is `lora_alpha / lora_r`.
    lora_alpha: f64 = 16.0;
    /// Dropout probability of the LoRA layers' inputs, from 0 to 1.
    lora_dropout: f64 = 0.05;
    /// Recomputes activations in the backward pass instead of storing them.
    grad_checkpoint: bool = false;
    /// Probability of skipping a residual path of the deepest block of a trained vision model, from 0 to 1; it rises
    /// linearly from 0 in the first block.
    drop_path_rate: f64 = 0.0;
    /// Width and height of a tile in pixels; `None` uses the checkpoint's value.
    force_image_size: Option<usize> = None;
    /// Scale of the pixel shuffle, as a factor of width and height; `None` uses the checkpoint's value.
    down_sample_ratio: Option<f64> = None;
    /// Splits images into tiles; `None` uses the checkpoint's value.
    dynamic_image_size: Option<bool> = None;
    /// Adds a thumbnail to images of more than one tile; `None` uses the checkpoint's value.
    use_thumbnail: Option<bool> = None;
    /// Minimum number of tiles of an image; `None` uses the checkpoint's value.
    min_dynamic_patch: Option<usize> = None;
    /// Maximum number of tiles of an image, without the thumbnail; `None` uses the checkpoint's value.
    max_dynamic_patch: Option<usize> = None;
    /// Pads an image that is not split into tiles to a square; `None` uses the checkpoint's value.
    pad2square: Option<bool> = None;
    /// Minimum number of pixels of a resized image, for a model that reads whole images; `None` uses the checkpoint's value.
    min_pixels: Option<usize> = None;
    /// Maximum number of pixels of a resized image, for a model that reads whole images; `None` uses the checkpoint's value.
    max_pixels: Option<usize> = None;
    /// Mean and standard deviation of the pixel normalisation; `None` uses the checkpoint's values.
    normalize_type: Option<Normalization> = None;
    /// Version of the pixel shuffle; `None` uses the checkpoint's.
    ps_version: Option<PixelShuffle> = None;
    /// Vision layer whose output the projector reads: an index into [embeddings, layer 1, …], negative from the end;
    /// `None` uses the checkpoint's value.
    vision_select_layer: Option<i64> = None;
    /// Replaces every image by the white image (the published text-only ablation).
    use_text_only: bool = false;
    /// Replaces every prompt by the empty prompt (the published image-only ablation).
    use_image_only: bool = false;

    /// Passes over the training rows, unless `max_steps` is set.
    num_train_epochs: f64 = 3.0;
    /// Puts rows of similar length in one optimizer step; lengths are estimated.
    group_by_length: bool = false;
    /// Number of optimizer steps; -1 uses `num_train_epochs`.
    max_steps: i64 = -1;
    /// Rows of one forward and backward pass.
    per_device_train_batch_size: usize = 8;
    /// Rows of one forward pass of an evaluation.
    per_device_eval_batch_size: usize = 8;
    /// Forward and backward passes of one optimizer step.
    gradient_accumulation_steps: usize = 1;
    /// Peak learning rate.
    learning_rate: f64 = 5e-5;
    /// Decoupled weight decay of tensors of two or more dimensions.
    weight_decay: f64 = 0.0;
    /// Decay rate of AdamW's first moment.
    adam_beta1: f64 = 0.9;
    /// Decay rate of AdamW's second moment.
    adam_beta2: f64 = 0.999;
    /// AdamW's epsilon.
    adam_epsilon: f64 = 1e-8;
    /// Maximum gradient norm over both branches, above which gradients are scaled down; 0 disables clipping.
    max_grad_norm: f64 = 1.0;
    /// Learning-rate schedule after the warm-up.
    lr_scheduler_type: SchedulerKind = SchedulerKind::Linear;
    /// Share of all steps in which the learning rate warms up; `warmup_steps` overrides it.
    warmup_ratio: f64 = 0.0;
    /// Number of steps in which the learning rate warms up; 0 uses `warmup_ratio`.
    warmup_steps: usize = 0;
    /// When checkpoints are saved.
    save_strategy: SaveStrategy = SaveStrategy::Steps;
    /// Optimizer steps between checkpoints.
    save_steps: usize = 500;
    /// Saves checkpoints without optimizer state; no run can resume from them.
    save_only_model: bool = false;
    /// Checkpoint that the run resumes from; `null` uses the newest of `output_dir`.
    resume_from_checkpoint: Resume = Resume::Newest;
    /// Number of checkpoints to keep; `None` keeps all.
    save_total_limit: Option<usize> = None;
    /// Optimizer steps between records of the metrics.
    logging_steps: usize = 500;
    /// Also logs the first step.
    logging_first_step: bool = false;
    /// When `eval_data` is evaluated; `None` evaluates every `eval_steps`.
    eval_strategy: Option<EvalStrategy> = None;
    /// Optimizer steps between evaluations; `None` uses `logging_steps`.
    eval_steps: Option<usize> = None;
    /// Keeps the weights with the best evaluation as `checkpoint-best`.
    load_best_model_at_end: bool = false;
    /// Metric that ranks evaluations, prefixed with the set's name if there are several sets, e.g. `dev_accuracy`;
    /// `None` uses the loss.
    metric_for_best_model: Option<String> = None;
    /// Whether a greater metric is better; `None` means yes for every metric but a loss.
    greater_is_better: Option<bool> = None;
    /// Number of evaluations without improvement after which training stops; `None` never stops early.
    early_stopping_patience: Option<usize> = None;
    /// Minimum improvement that resets `early_stopping_patience`.
    early_stopping_threshold: f64 = 0.0;
    /// Computes in bfloat16, with fp32 master weights.
    bf16: bool = false;
    /// Allows TF32 in fp32 matrix products on an NVIDIA GPU: faster and less exact.
    tf32: bool = false;
    /// Seed of all randomness.
    seed: usize = 42;
    /// Seed of the order of the rows; `None` uses `seed`.
    data_seed: Option<usize> = None;
    /// Skips the last, incomplete batch of an epoch.
    dataloader_drop_last: bool = false;
    /// Metrics writers in addition to `metrics.jsonl`: `tensorboard`, `all` (the same) or `none`.
    report_to: Vec<String> = vec!["all".into()];

    /// Training algorithm; if absent, shortcut-aware with `bias_model_path` and standard without.
    algorithm: Algorithm = Algorithm::Standard;
    /// Optimizer steps of the text-only branch alone, before the first common step.
    text_branch_warmup_steps: usize = 0;
    /// How the text-only branch reweights the main loss.
    sfc: Sfc = Sfc::Published;
    /// Whether the text-only branch has a vision encoder; without one it sees no image, not even the white one.
    text_branch_vision: bool = true;
    /// Number of language-model layers that the text-only branch starts with, from the first; `None` uses all.
    text_branch_layers: Option<usize> = None;
    /// Assumed label-noise rate: the share of pairs whose labels are swapped, from 0 to below 0.5.
    label_smoothing: f64 = 0.0;
    /// Coefficient of the squared sum of a pair's rewards in the loss; `None` omits the term.
    center_rewards_coefficient: Option<f64> = None;
    /// Minimum learning rate after the warm-up, as a share of the peak.
    min_lr_ratio: f64 = 0.0;
    /// Shuffles the rows of each epoch.
    shuffle: bool = true;
    /// Base folder of relative image paths; `None` uses the folder of the JSONL file.
    image_root: Option<String> = None;
    /// Keys of the rows that are plain data, although their names suggest an image, a video, turns or a margin.
    carry: Vec<String> = Vec::new();
    /// Evaluation sets: JSONL files by name.
    eval_data: BTreeMap<String, String> = BTreeMap::new();
    /// Tolerated share of bad rows (unreadable, or with images that are), from 0 to 1; more of them end the run.
    max_bad_fraction: f64 = 0.0;
    /// Reads special tokens that are spelled out in a text as plain text.
    literal_special_tokens: bool = false;
    /// Computes common parts of rows once. `false` is the published schedule: every response is a separate row that
    /// encodes its own images.
    share_computation: bool = true;
    /// RAM budget in bytes for cached vision features of a frozen vision model.
    vision_cache_memory: usize = 4 << 30;
    /// Disk budget in bytes, in `output_dir`, for cached vision features beyond `vision_cache_memory`.
    vision_cache_disk: usize = 0;
    /// Starts from scratch in an output folder that is not empty.
    overwrite_output_dir: bool = false;
    /// Takes the steps that `max_steps` or `num_train_epochs` adds to those of the run so far, complete or not: from the
    /// newest checkpoint, by the schedule of the new number of steps.
    extend: bool = false;
    /// Seconds after which a process that does not answer the others ends the run.
    ddp_timeout: usize = 1800;
    /// CPU threads of LibTorch; `None` uses LibTorch's default, at most the physical cores that affinity and CPU quota allow.
    threads: Option<usize> = None;
}
