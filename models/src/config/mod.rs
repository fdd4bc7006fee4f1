//! A checkpoint's `config.json` (the Hugging Face layout of InternVL) as typed values. Divisibility is checked
//! once, and everything that this crate cannot compute is refused by name.

mod fields;
mod rope;
mod text;
mod vision;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::image::{Normalization, TileSettings};
use crate::kinds::{InputMode, TokenOrder};
use crate::prompt::Template;
use crate::{Error, Result, checkpoint};

pub use crate::family::TextFamily;
use fields::{Fields, divides};
pub use text::TextConfig;
pub use vision::{VisionConfig, VisionNorm};

/// Everything about a reward model but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The vision encoder; a text-only branch may have none.
    pub vision: Option<VisionConfig>,
    /// The language model.
    pub text: TextConfig,
    /// The settings of image tiling.
    pub tiles: TileSettings,
    /// The normalisation of pixels. The published code does not store it; the default is ImageNet's (`normalize_type`).
    pub normalization: Normalization,
    /// The conversation template; for checkpoints without one, training names it (`conv_style`).
    pub template: Option<Template>,
    /// Side of the pixel-shuffle window (1 / `downsample_ratio`).
    pub shuffle: usize,
    /// The order of tokens after pixel shuffle (`ps_version`).
    pub token_order: TokenOrder,
    raw: Value,
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
    /// Reads and checks `folder/config.json`, the first file that is read of a checkpoint.
    ///
    /// # Errors
    /// A folder that holds something else than a checkpoint (the message has the cure), a file that cannot be read, or as
    /// [`Self::parse`].
    pub fn open(folder: &Path) -> Result<Self> {
        checkpoint::diagnose(folder)?;
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let value =
            serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(path.display()))?;
        Self::parse(value).map_err(|e| e.at(path.display()))
    }

    /// Checks the content of a `config.json`.
    ///
    /// # Errors
    /// A missing key, a wrong type, or a model that is not supported.
    pub fn parse(raw: Value) -> Result<Self> {
        let root = Fields(&raw);
        root.one_of("model_type", &["internvl_chat"])?;
        let vision = vision(&root)?;
        let text =
            TextConfig::parse(&root.section("llm_config")?).map_err(|e| e.at("llm_config"))?;
        let image_size = vision.as_ref().map_or(TILE, |vision| vision.image_size);
        let tiles = tile_settings(&root, image_size)?;
        let shuffle = shuffle_side(root.number_or("downsample_ratio", 0.5)?)?;
        let template = root
            .text("template")?
            .map(|name| name.parse())
            .transpose()?;
        let normalization = match root.get("normalize_type") {
            None => Normalization::Imagenet,
            Some(kind) => serde_json::from_value(kind.clone())
                .map_err(|e| Error::invalid(e).at("normalize_type"))?,
        };
        let config = Self {
            vision,
            text,
            tiles,
            normalization,
            template,
            shuffle,
            token_order: token_order(&root)?,
            raw,
        };
        config.check()?;
        Ok(config)
    }

    /// Patches along one side of a tile; 0 without a vision encoder.
    pub fn patches_per_side(&self) -> usize {
        let patches = |vision: &VisionConfig| self.tiles.image_size as usize / vision.patch;
        self.vision.as_ref().map_or(0, patches)
    }

    /// Image tokens that one tile becomes; 0 without a vision encoder.
    pub fn tokens_per_tile(&self) -> usize {
        (self.patches_per_side() / self.shuffle).pow(2)
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
        self.with([("vision_config".to_owned(), Value::Null)])
    }

    /// The same model with the first `layers` of its language model's layers, or all if it has fewer.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_layers(&self, layers: usize) -> Result<Self> {
        let mut text = self.raw["llm_config"].clone();
        text["num_hidden_layers"] = layers.min(self.text.layers).into();
        self.with([("llm_config".to_owned(), text)])
    }

    /// The same model with its position embedding resized to its tiles.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn fitted(&self) -> Result<Self> {
        if self.vision.is_none() {
            return Ok(self.clone());
        }
        let mut vision = self.raw["vision_config"].clone();
        vision["image_size"] = self.tiles.image_size.into();
        self.with([("vision_config".to_owned(), vision)])
    }

    fn check(&self) -> Result<()> {
        let Some(vision) = &self.vision else {
            return Ok(());
        };
        divides(
            "vision_config: patch_size",
            vision.patch,
            "force_image_size",
            self.tiles.image_size as usize,
        )?;
        divides(
            "downsample_ratio: pixel shuffle side",
            self.shuffle,
            "patches per side",
            self.patches_per_side(),
        )
    }
}

/// The default side of a tile.
const TILE: usize = 448;

/// `"vision_config": null` means a model without vision; a missing key is an oversight.
fn vision(root: &Fields) -> Result<Option<VisionConfig>> {
    if root.is_null("vision_config") {
        return Ok(None);
    }
    let section = root.section("vision_config")?;
    let select_layer = root.integer_or("select_layer", -1)?;
    let vision = VisionConfig::parse(&section, select_layer).map_err(|e| e.at("vision_config"))?;
    Ok(Some(vision))
}

fn tile_settings(root: &Fields, image_size: usize) -> Result<TileSettings> {
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

fn shuffle_side(ratio: f64) -> Result<usize> {
    let side = (1.0 / ratio).round();
    if !(1.0..=16.0).contains(&side) || (side * ratio - 1.0).abs() > 1e-9 {
        return Err(Error::invalid(format!(
            "downsample_ratio: expected 1/n, got {ratio}"
        )));
    }
    Ok(side as usize)
}

fn token_order(root: &Fields) -> Result<TokenOrder> {
    match root.text("ps_version")? {
        Some("v1") => Ok(TokenOrder::ByColumn),
        None | Some("v2") => Ok(TokenOrder::ByRow),
        Some(_) => Err(root.wrong("ps_version", "one of v1, v2")),
    }
}

#[cfg(test)]
mod tests;
