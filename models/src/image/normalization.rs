//! The normalisation of pixels.

use serde::{Deserialize, Serialize};

/// The mean and standard deviation per channel that the vision encoder was trained with, on a 0..1 scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// The statistics of ImageNet: InternViT's own, and the default of the published code.
    #[default]
    Imagenet,
    /// The statistics of CLIP, with the digits that InternVL's code gives.
    Clip,
    /// The same with the digits of CLIP itself, as Qwen2-VL and Qwen2.5-VL have them.
    OpenAi,
    /// One half everywhere, as SigLIP does.
    Siglip,
}

impl Normalization {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] = [Self::Imagenet, Self::Clip, Self::OpenAi, Self::Siglip];

    /// Subtracted from the pixels, R G B.
    pub fn mean(self) -> [f32; 3] {
        match self {
            Self::Imagenet => [0.485, 0.456, 0.406],
            Self::Clip => [0.481_454_6, 0.457_827_5, 0.408_210_73],
            Self::OpenAi => [0.481_454_66, 0.457_827_5, 0.408_210_73],
            Self::Siglip => [0.5; 3],
        }
    }

    /// The divisor of the difference, R G B.
    pub fn std(self) -> [f32; 3] {
        match self {
            Self::Imagenet => [0.229, 0.224, 0.225],
            Self::Clip => [0.268_629_5, 0.261_302_5, 0.275_771_1],
            Self::OpenAi => [0.268_629_54, 0.261_302_6, 0.275_777_1],
            Self::Siglip => [0.5; 3],
        }
    }
}
