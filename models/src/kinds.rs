//! Small choices that configuration, network, layout and bundle share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The execution provider of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Standard ONNX operators only; runs on every provider that has kernels for them.
    Portable,
    /// ONNX Runtime's CPU provider.
    Cpu,
    /// ONNX Runtime's CUDA provider.
    Cuda,
    /// TensorRT.
    Tensorrt,
}

/// Precision of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit float.
    Fp32,
    /// 16-bit float.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8-bit integers with scales.
    Int8,
    /// 4-bit weights with scales.
    Int4,
}

impl Precision {
    /// Whether its rounding is visible in rewards, so that its error is a question of their spread.
    pub fn is_lossy(self) -> bool {
        match self {
            Self::Fp32 | Self::Fp16 => false,
            Self::Bf16 | Self::Int8 | Self::Int4 => true,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        })
    }
}

/// The parts of a request that the model was trained to see; score and evaluate obey it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// Image and prompt.
    #[default]
    Full,
    /// The white image instead of the request's.
    TextOnly,
    /// The empty prompt instead of the request's.
    ImageOnly,
}

/// The order of a tile's tokens after pixel shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrder {
    /// Along the rows of the image (InternVL's "v2").
    ByRow,
    /// Along its columns ("v1").
    ByColumn,
}

/// The layout of a checkpoint: the class of its `config.json`, and the names of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// InternVL's published code.
    InternvlChat,
    /// InternVL in transformers.
    Internvl,
    /// A language model in transformers, with a score head and no vision.
    Text,
    /// Qwen2-VL, Qwen2.5-VL or Qwen3-VL in transformers.
    QwenVl(TensorNames),
}

/// The names of the tensors of a vision-language model in transformers, whose classes have changed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorNames {
    /// `visual` and `model` side by side.
    Flat,
    /// `visual` and `language_model` inside of `model`.
    Nested,
}

/// What becomes of an image's transparent pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transparency {
    /// Their own colours appear: alpha is dropped.
    #[default]
    Dropped,
    /// They lie over white.
    White,
}

/// The nonlinearity between the layers of a score head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadActivation {
    /// max(x, 0).
    Relu,
    /// x · sigmoid(x).
    Silu,
    /// The exact one, by erf.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

impl HeadActivation {
    /// Every activation with its name.
    pub const NAMED: [(&str, Self); 4] = [
        ("relu", Self::Relu),
        ("silu", Self::Silu),
        ("gelu", Self::Gelu),
        ("tanh", Self::Tanh),
    ];
}

/// The names of a score head's tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadNames {
    /// `score`: the published code, transformers, ms-swift.
    #[default]
    Score,
    /// `v_head.summary`, in a file for itself: TRL's value head, LLaMA-Factory.
    ValueHead,
    /// `rm_head`: HPSv3.
    RmHead,
}

impl HeadNames {
    pub(crate) const ALL: [Self; 3] = [Self::Score, Self::ValueHead, Self::RmHead];

    /// The module that holds its tensors.
    pub(crate) fn stored(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::ValueHead => "v_head.summary",
            Self::RmHead => "rm_head",
        }
    }
}
