//! A checkpoint's `config.json` as typed values, in each of the layouts. Divisibility is checked once, and everything
//! that this crate cannot compute is refused by name.

mod encoder;
mod fields;
mod folder;
mod head;
mod internvl;
mod internvl_chat;
mod own;
mod qwen_vision;
mod qwen_vl;
mod rope;
mod text;
mod text_model;
mod vision;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::family;
use crate::image::{ImageSettings, Normalization, TileSettings};
use crate::kinds::{HeadNames, InputMode, Layout, Transparency};
use crate::prompt::Template;
use crate::{Error, Result, checkpoint};

pub use crate::family::TextFamily;
pub use encoder::VisionConfig;
use fields::{Fields, divides};
pub use folder::OTHER_FILES;
pub use head::{HeadChoices, HeadConfig, HeadLayer};
use own::{Own, VISION};
pub use qwen_vision::{QwenGeneration, QwenVisionConfig};
use qwen_vl::QwenVl;
pub use text::TextConfig;
pub use vision::{InternVitConfig, PixelShuffle, VisionNorm};

/// Everything about a reward model but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The layout of the checkpoint.
    pub layout: Layout,
    /// Whether its tensors have the names of a model in memory, within the module `model`, as FSDP and DeepSpeed write them.
    pub is_in_model: bool,
    /// The vision encoder; a text-only branch may have none.
    pub vision: Option<VisionConfig>,
    /// The language model.
    pub text: TextConfig,
    /// The score head.
    pub head: HeadConfig,
    /// The settings of images.
    pub images: ImageSettings,
    /// The normalisation of pixels (`normalize_type`). InternVL's published code does not store it; its default is ImageNet's.
    pub normalization: Normalization,
    /// What becomes of an image's transparent pixels.
    pub transparency: Transparency,
    /// The conversation template; for checkpoints without one, training names it (`conv_style`).
    pub template: Option<Template>,
    raw: Value,
}

/// The limits of an image's pixels that a user names; `None` means those of the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PixelLimits {
    /// Fewest pixels of a resized image.
    pub min: Option<u64>,
    /// Most pixels of a resized image.
    pub max: Option<u64>,
}

/// The `seeward` section of a `config.json`: decisions of training that serving must repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Longest conversation in tokens; the rest is cut off.
    pub max_length: usize,
    /// The parts of a request that the model was trained to see.
    pub input_mode: InputMode,
    /// Whether special tokens written in a text are read as text.
    pub literal_special_tokens: bool,
    /// Mean and deviation of rewards over the trainer's evaluation set, if measured on these weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_scale: Option<RewardScale>,
    /// The same for the text-only branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_only_reward_scale: Option<RewardScale>,
}

/// Mean and spread of rewards, which give a margin its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardScale {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
}

impl Default for Serving {
    /// For a checkpoint trained elsewhere: the published limit, all inputs seen, special tokens parsed.
    fn default() -> Self {
        Self {
            max_length: 4096,
            input_mode: InputMode::Full,
            literal_special_tokens: false,
            reward_scale: None,
            text_only_reward_scale: None,
        }
    }
}

impl Config {
    /// Reads and checks `folder/config.json`, the first file that is read of a checkpoint. What it leaves to other files of
    /// the folder is read there, and becomes part of [`Self::json`]: the conversation template, and the settings of image
    /// tiling.
    ///
    /// # Errors
    /// A folder that holds something else than a checkpoint (the message has the cure), a file that cannot be read, or as
    /// [`Self::parse`].
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, PixelLimits::default())
    }

    /// The same with these limits of an image's pixels, which a folder may lack.
    ///
    /// # Errors
    /// As [`Self::open`]; limits for a model that cuts images into tiles.
    pub fn open_with(folder: &Path, limits: PixelLimits) -> Result<Self> {
        checkpoint::diagnose(folder)?;
        let path = folder.join("config.json");
        let mut raw = folder::json(&path)?;
        folder::complete(&mut raw, folder)?;
        for (key, limit) in qwen_vl::PIXELS.iter().zip([limits.min, limits.max]) {
            if let Some(limit) = limit {
                raw[*key] = json!(limit);
            }
        }
        let config = Self::parse(raw).map_err(|e| e.at(path.display()))?;
        let tiles = matches!(config.images, ImageSettings::Tiles(_));
        if tiles && config.vision.is_some() && limits != PixelLimits::default() {
            let problem = "min_pixels and max_pixels: the model cuts images into tiles";
            return Err(Error::invalid(problem).at(path.display()));
        }
        Ok(config)
    }

    /// Checks the content of a `config.json`.
    ///
    /// # Errors
    /// A missing key, a wrong type, or a model that is not supported.
    pub fn parse(raw: Value) -> Result<Self> {
        let root = Fields(&raw);
        let own = own(&root)?;
        let images = match own.images {
            Some(images) => images,
            None => ImageSettings::Tiles(tile_settings(&root, own.vision.as_ref())?),
        };
        let template = root
            .text("template")?
            .map(|name| name.parse())
            .transpose()?;
        let normalization = match root.get("normalize_type") {
            None => own.normalization,
            Some(kind) => serde_json::from_value(kind.clone())
                .map_err(|e| Error::invalid(e).at("normalize_type"))?,
        };
        let config = Self {
            layout: own.layout,
            is_in_model: own.is_in_model,
            vision: own.vision,
            text: own.text,
            head: HeadConfig::parse(&root)?,
            images,
            normalization,
            transparency: own.transparency,
            template,
            raw,
        };
        config.check()?;
        Ok(config)
    }

    /// Patches along one side of a tile; 0 without an encoder of tiles.
    pub fn patches_per_side(&self) -> usize {
        match (&self.vision, &self.images) {
            (Some(VisionConfig::InternVit(vision)), ImageSettings::Tiles(tiles)) => {
                tiles.image_size as usize / vision.patch
            }
            _ => 0,
        }
    }

    /// Hidden states of the vision encoder for one [unit](crate::image::Extent::units) of an image: the patches of a tile
    /// and its class token, or the patches of a token of a grid; 0 without a vision encoder.
    pub fn patches_per_unit(&self) -> usize {
        match &self.vision {
            None => 0,
            Some(VisionConfig::InternVit(_)) => 1 + self.patches_per_side().pow(2),
            Some(VisionConfig::Qwen(vision)) => vision.patches_per_token(),
        }
    }

    /// Image tokens that one unit of an image becomes: those of a tile, or 1 in a grid; 0 without a vision encoder.
    pub fn tokens_per_tile(&self) -> usize {
        match &self.vision {
            None => 0,
            Some(VisionConfig::InternVit(vision)) => {
                (self.patches_per_side() / vision.shuffle.side).pow(2)
            }
            Some(VisionConfig::Qwen(_)) => 1,
        }
    }

    /// Layers of the language model that add image embeddings to their output, the first ones; each has a share of the
    /// width of [`Self::image_width`].
    pub fn deepstack(&self) -> usize {
        let deepstack = |vision: &VisionConfig| vision.deepstack().len();
        self.vision.as_ref().map_or(0, deepstack)
    }

    /// Width of the image embeddings.
    pub fn image_width(&self) -> usize {
        self.text.hidden * (1 + self.deepstack())
    }

    /// Width of the vision encoder's hidden states that the projector reads; 0 without a vision encoder.
    pub fn feature_width(&self) -> usize {
        let hidden = self.vision.as_ref().map_or(0, VisionConfig::hidden);
        hidden * (1 + self.deepstack())
    }

    /// The text-only branch of a checkpoint that holds both: `bias_reward_config`, or the same as the main branch.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn text_only_branch(&self) -> Result<Self> {
        match self.raw.get("bias_reward_config") {
            None | Some(Value::Null) => Ok(self.clone()),
            Some(own) => Self::parse(own.clone()).map_err(|e| e.at("bias_reward_config")),
        }
    }

    /// The decisions of training for serving; the default for checkpoints trained elsewhere.
    ///
    /// # Errors
    /// A malformed `seeward` section.
    pub fn serving(&self) -> Result<Serving> {
        match self.raw.get("seeward") {
            None | Some(Value::Null) => Ok(Serving::default()),
            Some(section) => {
                serde_json::from_value(section.clone()).map_err(|e| Error::invalid(e).at("seeward"))
            }
        }
    }

    /// The JSON this was read from, every key kept.
    pub fn json(&self) -> &Value {
        &self.raw
    }

    /// The same model with top-level keys of its JSON replaced (training writes its settings).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with(&self, changes: impl IntoIterator<Item = (String, Value)>) -> Result<Self> {
        let mut raw = self.raw.clone();
        for (key, value) in changes {
            raw[key] = value;
        }
        Self::parse(raw)
    }

    /// The same model without its vision encoder and projector.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn without_vision(&self) -> Result<Self> {
        self.with([(VISION.to_owned(), Value::Null)])
    }

    /// The keys of the language model.
    pub fn text_json(&self) -> &Value {
        match self.text_section() {
            Some(key) => &self.raw[key],
            None => &self.raw,
        }
    }

    /// The same model with a key of its language model replaced.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_text(&self, key: &str, value: impl Into<Value>) -> Result<Self> {
        let Some(section) = self.text_section() else {
            return self.with([(key.to_owned(), value.into())]);
        };
        let mut text = self.raw[section].clone();
        text[key] = value.into();
        self.with([(section.to_owned(), text)])
    }

    /// The key of the language model's section; `None` where the whole file describes it.
    fn text_section(&self) -> Option<&'static str> {
        match self.layout {
            Layout::InternvlChat => Some(internvl_chat::TEXT),
            Layout::Internvl => Some(internvl::TEXT),
            Layout::QwenVl(_) if self.raw[qwen_vl::TEXT].is_object() => Some(qwen_vl::TEXT),
            Layout::QwenVl(_) | Layout::Text => None,
        }
    }

    /// The same model with these choices about its score head.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_head(&self, choices: &HeadChoices) -> Result<Self> {
        if *choices == HeadChoices::default() {
            return Ok(self.clone());
        }
        let head = self.head.clone().with(choices);
        self.with([(head::HEAD.to_owned(), json!(head))])
    }

    /// The keys that name a model with a score head in this layout; none for a head that its class does not have.
    pub fn reward_class(&self) -> Vec<(&'static str, Value)> {
        let class = match self.layout {
            Layout::InternvlChat => "InternVLRewardModel".to_owned(),
            Layout::Internvl => format!("InternVL{HEADED}"),
            Layout::Text => {
                let class = self.text.family.architecture();
                class.replace("ForCausalLM", HEADED)
            }
            Layout::QwenVl(_) => {
                let kind = self.raw["model_type"].as_str().and_then(QwenVl::named);
                kind.map_or(String::new(), |kind| format!("{}{HEADED}", kind.class))
            }
        };
        let mut keys = vec![("architectures", json!([class]))];
        if self.layout == Layout::InternvlChat {
            return keys;
        }
        if !self.head.is_drawn() || self.head.names != HeadNames::Score {
            return Vec::new();
        }
        // transformers takes the number of outputs from these.
        keys.push(("id2label", json!({"0": "LABEL_0"})));
        keys.push(("label2id", json!({"LABEL_0": 0})));
        keys
    }

    /// The same model with the first `layers` of its language model's layers, or all if it has fewer.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_layers(&self, layers: usize) -> Result<Self> {
        self.with_text("num_hidden_layers", layers.min(self.text.layers))
    }

    /// The same model with its position embedding resized to its tiles.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn fitted(&self) -> Result<Self> {
        let (Some(VisionConfig::InternVit(_)), ImageSettings::Tiles(tiles)) =
            (&self.vision, &self.images)
        else {
            return Ok(self.clone());
        };
        let mut vision = self.raw[VISION].clone();
        let side = tiles.image_size;
        vision["image_size"] = match vision["image_size"].is_array() {
            true => [side; 2].as_slice().into(),
            false => side.into(),
        };
        self.with([(VISION.to_owned(), vision)])
    }

    fn check(&self) -> Result<()> {
        let (Some(VisionConfig::InternVit(vision)), ImageSettings::Tiles(tiles)) =
            (&self.vision, &self.images)
        else {
            return self.check_deepstack();
        };
        divides(
            "vision_config: patch_size",
            vision.patch,
            "force_image_size",
            tiles.image_size as usize,
        )?;
        divides(
            "downsample_ratio: pixel shuffle side",
            vision.shuffle.side,
            "patches per side",
            self.patches_per_side(),
        )
    }

    fn check_deepstack(&self) -> Result<()> {
        let (read, layers) = (self.deepstack(), self.text.layers);
        match read <= layers {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "deepstack_visual_indexes: {read} layers of the language model would add them, but it has {layers}"
            ))),
        }
    }
}

/// The end of the class names of transformers' models with a score head.
const HEADED: &str = "ForSequenceClassification";
/// The default side of a tile.
const TILE: usize = 448;

fn own(root: &Fields) -> Result<Own> {
    match root.text("model_type")? {
        Some(internvl_chat::TYPE) => internvl_chat::parse(root),
        Some(internvl::TYPE) => internvl::parse(root),
        Some(kind) if text_model::TYPES.contains(&kind) => text_model::parse(root),
        kind => match kind.and_then(QwenVl::named) {
            Some(qwen) => qwen.parse(root),
            None => Err(unknown_type(kind)),
        },
    }
}

fn unknown_type(kind: Option<&str>) -> Error {
    let qwen = qwen_vl::TYPES.map(|kind| kind.name);
    let supported = [
        &[internvl_chat::TYPE, internvl::TYPE],
        &qwen[..],
        &text_model::TYPES[..],
    ]
    .concat();
    let supported = supported.join(", ");
    let kind = kind.unwrap_or("nothing");
    let reason = family::reason(kind);
    Error::invalid(format!(
        "model_type: expected one of {supported}, got {kind}{reason}"
    ))
}

fn tile_settings(root: &Fields, vision: Option<&VisionConfig>) -> Result<TileSettings> {
    let vision = vision.and_then(VisionConfig::intern_vit);
    let image_size = vision.map_or(TILE, |vision| vision.image_size);
    let settings = TileSettings {
        image_size: root.size_or("force_image_size", image_size)? as u32,
        dynamic: root.flag_or("dynamic_image_size", false)?,
        use_thumbnail: root.flag_or("use_thumbnail", false)?,
        min_tiles: root.size_or("min_dynamic_patch", 1)? as u32,
        max_tiles: root.size_or("max_dynamic_patch", 12)? as u32,
        pad2square: root.flag_or("pad2square", false)?,
    };
    settings.validate()?;
    Ok(settings)
}

#[cfg(test)]
mod tests;
