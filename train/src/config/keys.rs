//! Every key of the config: its name, type and default, and what it means. The one table of them.
//!
//! Names and defaults are those of the published argument classes (InternVL's model and data arguments as the
//! shortcut-aware code has them, and the Hugging Face trainer's); those at the end are Seeward's own.

use std::collections::BTreeMap;

use serde_norway::{Mapping, Value};

use super::setting::{Choice, Setting, shown};

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr;)+) => {
        /// The settings of a training run, complete and checked. `None` in a key that the checkpoint's `config.json`
        /// also has stands for the checkpoint's value.
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
            /// The names of all keys, in the order of the resolved config.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            /// Sets one key, or says what it expected; `None` if there is no such key.
            pub(super) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>> {
                Some(match key {
                    $(stringify!($key) => read(value).map(|value| self.$key = value),)+
                    _ => return None,
                })
            }

            /// Every key with its value.
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
    /// Checkpoint folder or hub id to start from.
    model_name_or_path: String = "OpenGVLab/InternVL2-8B".into();
    /// Checkpoint folder or hub id that the text-only branch starts from; `None` leaves it to the main one.
    bias_model_path: Option<String> = None;
    /// The training rows: a JSONL file.
    dataset_path: String = String::new();
    /// The folder of checkpoints, metrics and the resolved config.
    output_dir: String = String::new();

    /// The name of the conversation template.
    conv_style: Option<String> = None;
    /// The longest conversation, in tokens; the rest is cut off on the right.
    max_length: usize = 8192;
    /// Keeps the language model as it is.
    freeze_llm: bool = false;
    /// Keeps the vision model as it is.
    freeze_backbone: bool = false;
    /// Trains a frozen vision model's layers from this one on, counted from the end if negative; 0 trains none.
    unfreeze_vit_layers: i64 = 0;
    /// Trains the output projection of a language model that is frozen or has additions: next-token training reaches it.
    unfreeze_lm_head: bool = false;
    /// Keeps the projector as it is.
    freeze_mlp: bool = false;
    /// Trains a low-rank addition to the vision model.
    use_backbone_lora: bool = false;
    /// Trains a low-rank addition to the language model.
    use_llm_lora: bool = false;
    /// Rank of the low-rank additions.
    lora_r: usize = 64;
    /// Their scale is this divided by the rank.
    lora_alpha: f64 = 16.0;
    /// The share of their inputs that training drops.
    lora_dropout: f64 = 0.05;
    /// Recomputes activations in the backward pass instead of keeping them.
    grad_checkpoint: bool = false;
    /// The rate at which the deepest block of a trained vision model is skipped.
    drop_path_rate: f64 = 0.0;
    /// Width and height of a tile, in pixels.
    force_image_size: Option<usize> = None;
    /// Scale of the pixel shuffle.
    down_sample_ratio: Option<f64> = None;
    /// Cuts images into tiles.
    dynamic_image_size: Option<bool> = None;
    /// Adds a thumbnail where there is more than one tile.
    use_thumbnail: Option<bool> = None;
    /// The least number of tiles.
    min_dynamic_patch: Option<usize> = None;
    /// The greatest number of tiles, the thumbnail not counted.
    max_dynamic_patch: Option<usize> = None;
    /// Pads an image that is not tiled to a square.
    pad2square: Option<bool> = None;
    /// Mean and deviation of the pixel normalisation.
    normalize_type: Option<Normalization> = None;
    /// Version of the pixel shuffle.
    ps_version: Option<PixelShuffle> = None;
    /// The vision layer whose output is used: an index into [embeddings, layer 1, …], from the end if negative.
    vision_select_layer: Option<i64> = None;
    /// Replaces every image by the white one.
    use_text_only: bool = false;
    /// Replaces every prompt by the empty one.
    use_image_only: bool = false;

    /// Passes over the data; overridden by `max_steps`.
    num_train_epochs: f64 = 3.0;
    /// Rows of similar length share an optimizer step; lengths are estimated.
    group_by_length: bool = false;
    /// Optimizer steps; -1 leaves it to `num_train_epochs`.
    max_steps: i64 = -1;
    /// Pairs of one forward and backward pass.
    per_device_train_batch_size: usize = 8;
    /// Pairs of one forward pass of an evaluation.
    per_device_eval_batch_size: usize = 8;
    /// Passes of one optimizer step.
    gradient_accumulation_steps: usize = 1;
    /// The peak of the learning rate.
    learning_rate: f64 = 5e-5;
    /// Decoupled weight decay of tensors of two or more dimensions.
    weight_decay: f64 = 0.0;
    /// Decay of AdamW's first moment.
    adam_beta1: f64 = 0.9;
    /// Decay of AdamW's second moment.
    adam_beta2: f64 = 0.999;
    /// AdamW's epsilon.
    adam_epsilon: f64 = 1e-8;
    /// Gradients are scaled down to this norm; 0 leaves them.
    max_grad_norm: f64 = 1.0;
    /// The shape of the learning rate behind its ramp.
    lr_scheduler_type: SchedulerKind = SchedulerKind::Linear;
    /// The ramp's share of all steps; overridden by `warmup_steps`.
    warmup_ratio: f64 = 0.0;
    /// The ramp's steps; 0 leaves it to `warmup_ratio`.
    warmup_steps: usize = 0;
    /// When checkpoints are saved.
    save_strategy: SaveStrategy = SaveStrategy::Steps;
    /// Steps between checkpoints.
    save_steps: usize = 500;
    /// Leaves the optimizer's state out of checkpoints: no run goes on from them.
    save_only_model: bool = false;
    /// What a run goes on from.
    resume_from_checkpoint: Resume = Resume::Newest;
    /// How many checkpoints are kept; `None` keeps all.
    save_total_limit: Option<usize> = None;
    /// Steps between lines of the metrics.
    logging_steps: usize = 500;
    /// Logs the first step too.
    logging_first_step: bool = false;
    /// When `eval_data` is evaluated; `None`: every `eval_steps`.
    eval_strategy: Option<EvalStrategy> = None;
    /// Steps between evaluations; `None` takes `logging_steps`.
    eval_steps: Option<usize> = None;
    /// Keeps the weights that did best in an evaluation, as `checkpoint-best`.
    load_best_model_at_end: bool = false;
    /// What decides which are best: a metric, behind its set's name where there are several sets; `None` takes the loss.
    metric_for_best_model: Option<String> = None;
    /// Whether more of it is better; `None`: unless it is a loss.
    greater_is_better: Option<bool> = None;
    /// Evaluations without a better one after which training stops; `None` never stops.
    early_stopping_patience: Option<usize> = None;
    /// What an evaluation must be better by to count for that.
    early_stopping_threshold: f64 = 0.0;
    /// Computes in bfloat16, with fp32 masters of the weights that train.
    bf16: bool = false;
    /// Lets fp32 products on an NVIDIA GPU be less exact (TF32).
    tf32: bool = false;
    /// The seed of all randomness.
    seed: usize = 42;
    /// The seed of the rows' order; `None` takes `seed`.
    data_seed: Option<usize> = None;
    /// Leaves out the rows of an epoch that do not fill a batch.
    dataloader_drop_last: bool = false;
    /// Where metrics go besides `metrics.jsonl`: `tensorboard`, `all` (the same) or `none`.
    report_to: Vec<String> = vec!["all".into()];

    /// What is trained; where it is absent, shortcut-aware if `bias_model_path` is set, else standard.
    algorithm: Algorithm = Algorithm::Standard;
    /// Steps that the text-only branch takes alone before step 0.
    text_branch_warmup_steps: usize = 0;
    /// How the text-only branch bears on the main one.
    sfc: Sfc = Sfc::Published;
    /// Whether the text-only branch has a vision encoder; without one it never sees an image, not even the white one.
    text_branch_vision: bool = true;
    /// How many layers of its language model the text-only branch starts with, the first ones; `None` takes all.
    text_branch_layers: Option<usize> = None;
    /// The share of pairs that the loss takes for labelled the wrong way round.
    label_smoothing: f64 = 0.0;
    /// Weight of the squared sum of a pair's rewards in the loss; `None` is none.
    center_rewards_coefficient: Option<f64> = None;
    /// The floor of the learning rate behind its ramp, as a share of the peak.
    min_lr_ratio: f64 = 0.0;
    /// Shuffles the rows of each epoch.
    shuffle: bool = true;
    /// The folder that relative image paths start from; `None` takes that of the JSONL file.
    image_root: Option<String> = None;
    /// Keys of the rows that are plain data, although their names suggest an image, a video, turns or a margin.
    carry: Vec<String> = Vec::new();
    /// Evaluation sets by name: JSONL files of pairs.
    eval_data: BTreeMap<String, String> = BTreeMap::new();
    /// The share of rows that may be unreadable before training refuses the file.
    max_bad_fraction: f64 = 0.0;
    /// Takes special tokens that a text spells out for plain text.
    literal_special_tokens: bool = false;
    /// Computes once what rows have in common; off, every response is a row of its own and sees its own images, as
    /// published.
    share_computation: bool = true;
    /// Bytes of memory in which what a frozen vision model makes of images is kept.
    vision_cache_memory: usize = 4 << 30;
    /// Bytes of the output folder's disk for what memory has no room for.
    vision_cache_disk: usize = 0;
    /// Starts afresh in a folder that is not empty.
    overwrite_output_dir: bool = false;
    /// Processor threads of the computation; `None` leaves it to LibTorch.
    threads: Option<usize> = None;
}

/// What a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint of its output folder, if there is any.
    Newest,
    /// Nothing: its output folder must have no checkpoints.
    Never,
    /// This checkpoint, in an output folder without checkpoints; there, from then on, the newest.
    From(String),
}

impl Setting for Resume {
    fn expected() -> String {
        "a checkpoint folder, true or false or null".into()
    }

    fn read(value: &Value) -> Option<Self> {
        if value.is_null() {
            return Some(Self::Newest);
        }
        match bool::read(value) {
            Some(true) => Some(Self::Newest),
            Some(false) => Some(Self::Never),
            None => String::read(value).map(Self::From),
        }
    }

    fn yaml(&self) -> Value {
        match self {
            Self::Newest => Value::Null,
            Self::Never => Value::from(false),
            Self::From(folder) => Value::from(folder.as_str()),
        }
    }
}

macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $kind:ident { $($(#[doc = $what:literal])+ $choice:ident = $name:literal,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[doc = $what])+ $choice,)+ }

        impl Choice for $kind {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$choice)),+];
        }

        impl $kind {
            /// Its name in the config.
            pub fn name(self) -> &'static str {
                match self { $(Self::$choice => $name,)+ }
            }
        }
    )+};
}

choices! {
    /// What is trained.
    Algorithm {
        /// One branch on the pairs.
        Standard = "standard",
        /// The main branch, its pairs weighted by the failures of a text-only one.
        ShortcutAware = "shortcut_aware",
        /// Next-token training on the response.
        Sft = "sft",
    }
    /// How the text-only branch bears on the main one. f and g are a pair's margins, ℓ its losses.
    Sfc {
        /// Weighs ℓ_f by the shortcut-failure coefficient, ℓ_g over the sum of both.
        Published = "published",
        /// Weighs ℓ_f by σ(−g).
        InversePropensity = "inverse_propensity",
        /// Learns −log σ(f + g), g a constant.
        ProductOfExperts = "product_of_experts",
    }
    /// The shape of the learning rate.
    SchedulerKind {
        /// A straight line down to the floor.
        Linear = "linear",
        /// Half a cosine down to the floor.
        Cosine = "cosine",
        /// The peak throughout, without a ramp.
        Constant = "constant",
        /// The peak behind the ramp.
        ConstantWithWarmup = "constant_with_warmup",
    }
    /// When checkpoints are saved; the last one always is.
    SaveStrategy {
        /// At the end alone.
        No = "no",
        /// Every `save_steps`.
        Steps = "steps",
        /// After every epoch.
        Epoch = "epoch",
    }
    /// When evaluations are made; after the last step too.
    EvalStrategy {
        /// Never.
        No = "no",
        /// Every `eval_steps`.
        Steps = "steps",
        /// After every epoch.
        Epoch = "epoch",
    }
    /// Mean and deviation of the pixel normalisation.
    Normalization {
        /// ImageNet's.
        ImageNet = "imagenet",
        /// CLIP's.
        Clip = "clip",
        /// SigLIP's: one half.
        Siglip = "siglip",
    }
    /// Version of the pixel shuffle.
    PixelShuffle {
        /// The first, which transposes the image.
        V1 = "v1",
        /// The corrected one.
        V2 = "v2",
    }
}
