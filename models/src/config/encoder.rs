//! The vision encoder of any family.

use super::qwen_vision::QwenVisionConfig;
use super::vision::InternVitConfig;

/// The vision encoder with its projector.
#[derive(Clone, Debug, PartialEq)]
pub enum VisionConfig {
    /// InternVL's, of tiles.
    InternVit(InternVitConfig),
    /// Qwen's, of grids.
    Qwen(QwenVisionConfig),
}

impl VisionConfig {
    /// Width of a patch's hidden state.
    pub fn hidden(&self) -> usize {
        match self {
            Self::InternVit(config) => config.hidden,
            Self::Qwen(config) => config.hidden,
        }
    }

    /// Layers stored in the checkpoint.
    pub fn layers(&self) -> usize {
        match self {
            Self::InternVit(config) => config.layers,
            Self::Qwen(config) => config.layers,
        }
    }

    /// Layers of the encoder whose hidden states the first layers of the language model add, one each.
    pub fn deepstack(&self) -> &[usize] {
        match self {
            Self::InternVit(_) => &[],
            Self::Qwen(config) => &config.deepstack,
        }
    }

    /// The encoder of tiles.
    pub fn intern_vit(&self) -> Option<&InternVitConfig> {
        match self {
            Self::InternVit(config) => Some(config),
            Self::Qwen(_) => None,
        }
    }
}
