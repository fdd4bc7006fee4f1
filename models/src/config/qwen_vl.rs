//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL as transformers writes them: the language model's keys at the root, or, later, in a
//! section.

use serde_json::{Value, from_value};

use super::encoder::VisionConfig;
use super::fields::Fields;
use super::own::{Own, VISION, vision};
use super::qwen_vision::{QwenGeneration, QwenVisionConfig};
use super::rope::Axes;
use super::text::TextConfig;
use crate::family::TextFamily;
use crate::image::{GridSettings, ImageSettings, Normalization};
use crate::kinds::{Layout, TensorNames, Transparency};
use crate::{Error, Result};

/// The key of the language model's section, where there is one.
pub(super) const TEXT: &str = "text_config";
/// The key for [`TensorNames`]; no file of others has it.
pub(super) const NAMES: &str = "tensor_names";
/// The keys for the limits of an image's pixels.
pub(super) const PIXELS: [&str; 2] = ["min_pixels", "max_pixels"];

/// A type of config.json.
pub(super) struct QwenVl {
    /// Its `model_type`.
    pub(super) name: &'static str,
    /// The beginning of its class names.
    pub(super) class: &'static str,
    generation: QwenGeneration,
    /// The `model_type` of its language model as a model for itself.
    text: &'static str,
    axes: Axes,
    /// The statistics of pixels that its encoder was trained with.
    normalization: Normalization,
    /// The names of tensors of its first class.
    names: TensorNames,
}

/// Every type.
pub(super) const TYPES: [QwenVl; 3] = [
    QwenVl {
        name: "qwen2_vl",
        class: "Qwen2VL",
        generation: QwenGeneration::Qwen2,
        text: "qwen2",
        axes: QWEN2_AXES,
        normalization: Normalization::OpenAi,
        names: TensorNames::Flat,
    },
    QwenVl {
        name: "qwen2_5_vl",
        class: "Qwen2_5_VL",
        generation: QwenGeneration::Qwen2_5,
        text: "qwen2",
        axes: QWEN2_AXES,
        normalization: Normalization::OpenAi,
        names: TensorNames::Flat,
    },
    QwenVl {
        name: "qwen3_vl",
        class: "Qwen3VL",
        generation: QwenGeneration::Qwen3,
        text: "qwen3",
        axes: Axes {
            theta: 500_000.0,
            sizes: [24, 20, 20],
            interleaved: true,
        },
        normalization: Normalization::Siglip,
        names: TensorNames::Nested,
    },
];

const QWEN2_AXES: Axes = Axes {
    theta: 1_000_000.0,
    sizes: [16, 24, 24],
    interleaved: false,
};

impl QwenVl {
    /// The type of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.name == name)
    }

    pub(super) fn parse(&self, root: &Fields) -> Result<Own> {
        let text = self.text(root)?;
        let encoder = |section: Fields| {
            QwenVisionConfig::parse(&section, self.generation).map_err(|e| e.at(VISION))
        };
        let encoder = vision(root)?.map(encoder).transpose()?;
        let names = match root.get(NAMES) {
            None => self.names,
            Some(names) => from_value(names.clone()).map_err(|e| Error::invalid(e).at(NAMES))?,
        };
        let images = match &encoder {
            None => None,
            Some(encoder) => Some(ImageSettings::Grid(grid(root, encoder, text.hidden)?)),
        };
        Ok(Own {
            layout: Layout::QwenVl(names),
            is_in_model: false,
            vision: encoder.map(VisionConfig::Qwen),
            text,
            images,
            normalization: self.normalization,
            transparency: Transparency::White,
        })
    }

    fn text(&self, root: &Fields) -> Result<TextConfig> {
        let family = TextFamily::of_type(self.text)?;
        let Some(_) = root.get(TEXT) else {
            return TextConfig::of_family(root, family, Some(&self.axes));
        };
        let section = root.section(TEXT)?;
        let text = TextConfig::of_family(&section, family, Some(&self.axes));
        let text = text.map_err(|e| e.at(TEXT))?;
        // Of a model in sections the root decides.
        let tied_embeddings = root.flag_or("tie_word_embeddings", text.tied_embeddings)?;
        Ok(TextConfig {
            tied_embeddings,
            ..text
        })
    }
}

fn grid(root: &Fields, encoder: &QwenVisionConfig, text: usize) -> Result<GridSettings> {
    if encoder.output != text {
        return Err(Error::invalid(format!(
            "{VISION}: its output of width {} does not fit the language model's {text}",
            encoder.output
        )));
    }
    let [min_pixels, max_pixels] = PIXELS.map(|key| limit(root, key));
    let settings = GridSettings {
        patch: encoder.patch as u32,
        merge: encoder.merge as u32,
        min_pixels: min_pixels?,
        max_pixels: max_pixels?,
        head_dim: encoder.head_dim(),
        window: encoder.window.map(|side| side as u32),
        table: encoder.table.map(|side| side as u32),
    };
    settings.validate()?;
    Ok(settings)
}

/// A limit of an image's pixels. Another one than that of training changes scores: there is no default.
fn limit(root: &Fields, key: &str) -> Result<u64> {
    let Some(value) = root.get(key) else {
        return Err(Error::invalid(format!(
            "{key}: no file of the folder has it: name it (--min-pixels and --max-pixels, in training min_pixels and \
             max_pixels)"
        )));
    };
    let limit = Value::as_u64(value).filter(|&limit| limit > 0);
    limit.ok_or_else(|| root.wrong(key, "a positive integer"))
}
