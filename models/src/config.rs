//! A checkpoint's `config.json` (the Hugging Face layout of InternVL) as typed values, every rule of divisibility
//! checked once, and anything this crate cannot compute refused by name.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::InputMode;
use crate::image::{Normalization, TileSettings};
use crate::prompt::Template;
use crate::{Error, Result};

/// Everything about a reward model but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The vision encoder.
    pub vision: VisionConfig,
    /// The language model.
    pub text: TextConfig,
    /// How a picture becomes tiles.
    pub tiles: TileSettings,
    /// How pixels are normalised. Not stored by the published code; ImageNet unless `normalize_type` says otherwise.
    pub normalization: Normalization,
    /// The conversation template; absent in some checkpoints, where training names it (`conv_style`).
    pub template: Option<Template>,
    /// Side of the pixel-shuffle window (1 / `downsample_ratio`).
    pub shuffle: usize,
    raw: Value,
}

/// The `seeward` section of a `config.json`: what training decided and serving must repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Longest conversation in tokens; the rest is cut off.
    pub max_length: usize,
    /// What of a request the model was trained to see.
    pub input_mode: InputMode,
    /// Whether special tokens written in a text are read as text.
    pub literal_special_tokens: bool,
}

impl Default for Serving {
    /// Of a checkpoint trained elsewhere: the published limit, everything seen, special tokens parsed.
    fn default() -> Self {
        Self {
            max_length: 4096,
            input_mode: InputMode::Full,
            literal_special_tokens: false,
        }
    }
}

/// The vision encoder: InternViT in the 300M style.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Width of a token.
    pub hidden: usize,
    /// Layers stored in the checkpoint.
    pub layers: usize,
    /// Layers that run: `select_layer` picks one output of [embeddings, layer 1, …, layer n].
    pub layers_run: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub ffn: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of a tile in pixels.
    pub image_size: usize,
    /// Epsilon of the layer norms.
    pub norm_eps: f64,
    /// Whether the fused qkv projection has a bias.
    pub qkv_bias: bool,
}

/// Which decoder the language model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFamily {
    /// Qwen2 and Qwen2.5: q/k/v biases, rotary positions, gated SiLU MLP.
    Qwen2,
}

/// The language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Its architecture.
    pub family: TextFamily,
    /// Width of a token.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the gated MLP.
    pub ffn: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the output projection is the embedding table.
    pub tied_embeddings: bool,
}

impl Config {
    /// Reads and checks `folder/config.json`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let value =
            serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(path.display()))?;
        Self::parse(value).map_err(|e| e.at(path.display()))
    }

    /// Checks a `config.json` that was read already.
    pub fn parse(raw: Value) -> Result<Self> {
        let root = Fields(&raw);
        root.one_of("model_type", &["internvl_chat"])?;
        let vision = VisionConfig::parse(
            &root.section("vision_config")?,
            root.integer_or("select_layer", -1)?,
        )
        .map_err(|e| e.at("vision_config"))?;
        let text =
            TextConfig::parse(&root.section("llm_config")?).map_err(|e| e.at("llm_config"))?;
        root.absent_or("ps_version", "v2")?;
        let tiles = tile_settings(&root, vision.image_size)?;
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
            raw,
        };
        config.check()?;
        Ok(config)
    }

    /// Image tokens that one tile becomes.
    pub fn tokens_per_tile(&self) -> usize {
        (self.vision.patches_per_side() / self.shuffle).pow(2)
    }

    /// The text-only branch of a checkpoint that holds both: `bias_reward_config`, or the same as the main branch.
    pub fn text_only_branch(&self) -> Result<Self> {
        match self.raw.get("bias_reward_config") {
            None | Some(Value::Null) => Ok(self.clone()),
            Some(own) => Self::parse(own.clone()).map_err(|e| e.at("bias_reward_config")),
        }
    }

    /// What training decided for serving; the default where it was not our training.
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

    /// The same model with top-level keys of its JSON replaced (training writes the settings it used).
    pub fn with(&self, changes: impl IntoIterator<Item = (String, Value)>) -> Result<Self> {
        let mut raw = self.raw.clone();
        for (key, value) in changes {
            raw[key] = value;
        }
        Self::parse(raw)
    }

    fn check(&self) -> Result<()> {
        divides(
            "downsample_ratio: pixel shuffle side",
            self.shuffle,
            "patches per side",
            self.vision.patches_per_side(),
        )
    }
}

impl VisionConfig {
    /// Patches along one side of a tile.
    pub fn patches_per_side(&self) -> usize {
        self.image_size / self.patch
    }

    fn parse(fields: &Fields, select_layer: i64) -> Result<Self> {
        fields.absent_or("norm_type", "layer_norm")?;
        fields.absent_or("hidden_act", "gelu")?;
        fields.absent_or("qk_normalization", false)?;
        let layers = fields.size("num_hidden_layers")?;
        let config = Self {
            hidden: fields.size("hidden_size")?,
            layers,
            layers_run: selected(select_layer, layers)?,
            heads: fields.size("num_attention_heads")?,
            ffn: fields.size("intermediate_size")?,
            patch: fields.size("patch_size")?,
            image_size: fields.size("image_size")?,
            norm_eps: fields.number_or("layer_norm_eps", 1e-6)?,
            qkv_bias: fields.flag_or("qkv_bias", true)?,
        };
        divides(
            "num_attention_heads",
            config.heads,
            "hidden_size",
            config.hidden,
        )?;
        divides("patch_size", config.patch, "image_size", config.image_size)?;
        Ok(config)
    }
}

impl TextConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    fn parse(fields: &Fields) -> Result<Self> {
        let architecture = fields.first_text("architectures")?;
        let family = match architecture {
            "Qwen2ForCausalLM" => TextFamily::Qwen2,
            other => {
                return Err(Error::invalid(format!(
                    "architecture {other} is not supported (supported: Qwen2ForCausalLM)"
                )));
            }
        };
        fields.absent_or("hidden_act", "silu")?;
        fields.absent_or("use_sliding_window", false)?;
        fields.absent("rope_scaling")?;
        let heads = fields.size("num_attention_heads")?;
        let config = Self {
            family,
            hidden: fields.size("hidden_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads: fields.size_or("num_key_value_heads", heads)?,
            ffn: fields.size("intermediate_size")?,
            vocabulary: fields.size("vocab_size")?,
            norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
            rope_theta: fields.number_or("rope_theta", 10000.0)?,
            tied_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        };
        divides(
            "num_attention_heads",
            config.heads,
            "hidden_size",
            config.hidden,
        )?;
        divides(
            "num_key_value_heads",
            config.kv_heads,
            "num_attention_heads",
            config.heads,
        )?;
        divides("rotary pairs of 2", 2, "head size", config.head_dim())?;
        Ok(config)
    }
}

fn tile_settings(root: &Fields, image_size: usize) -> Result<TileSettings> {
    let forced = root.size_or("force_image_size", image_size)?;
    if forced != image_size {
        return Err(Error::invalid(format!(
            "force_image_size {forced} differs from vision_config.image_size {image_size}: resizing the position embedding is not supported"
        )));
    }
    let settings = TileSettings {
        image_size: forced as u32,
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

/// The published code indexes [embeddings, layer 1, …]; negative counts from the end.
fn selected(select_layer: i64, layers: usize) -> Result<usize> {
    let count = layers as i64 + 1;
    let index = if select_layer < 0 {
        count + select_layer
    } else {
        select_layer
    };
    usize::try_from(index)
        .ok()
        .filter(|&index| index <= layers)
        .ok_or_else(|| {
            Error::invalid(format!(
                "select_layer {select_layer} is outside the {layers} layers"
            ))
        })
}

fn divides(what: &str, divisor: usize, of: &str, number: usize) -> Result<()> {
    if divisor == 0 || !number.is_multiple_of(divisor) {
        return Err(Error::invalid(format!(
            "{what} ({divisor}) does not divide {of} ({number})"
        )));
    }
    Ok(())
}

/// Typed access to one JSON object; a wrong type is an error that names the key.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let got = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        Error::invalid(format!("{key}: expected {expected}, got {got}"))
    }

    fn section(&self, key: &str) -> Result<Fields<'a>> {
        match self.get(key) {
            Some(value) if value.is_object() => Ok(Fields(value)),
            _ => Err(self.wrong(key, "an object")),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.get(key)
            .and_then(Value::as_u64)
            .filter(|&size| size > 0 && size < 1 << 31)
            .map(|size| size as usize)
            .ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_none() {
            Ok(default)
        } else {
            self.size(key)
        }
    }

    fn integer_or(&self, key: &str, default: i64) -> Result<i64> {
        self.get(key).map_or(Ok(default), |v| {
            v.as_i64().ok_or_else(|| self.wrong(key, "an integer"))
        })
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key).map_or(Ok(default), |v| {
            v.as_f64().ok_or_else(|| self.wrong(key, "a number"))
        })
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |v| {
            v.as_bool().ok_or_else(|| self.wrong(key, "true or false"))
        })
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key)
            .map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string")))
            .transpose()
    }

    fn first_text(&self, key: &str) -> Result<&'a str> {
        self.get(key)
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong(key, "a list with a class name"))
    }

    fn one_of(&self, key: &str, supported: &[&str]) -> Result<()> {
        match self.text(key)? {
            Some(name) if supported.contains(&name) => Ok(()),
            _ => Err(self.wrong(key, &format!("one of {}", supported.join(", ")))),
        }
    }

    fn absent_or(&self, key: &str, neutral: impl Into<Value>) -> Result<()> {
        let neutral = neutral.into();
        match self.get(key) {
            Some(value) if *value != neutral => Err(Error::invalid(format!(
                "{key}: {value} is not supported (supported: {neutral})"
            ))),
            _ => Ok(()),
        }
    }

    fn absent(&self, key: &str) -> Result<()> {
        self.get(key).map_or(Ok(()), |value| {
            Err(Error::invalid(format!("{key}: {value} is not supported")))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/models/qwen2/config.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Value), expected: &str) {
        let mut value = golden();
        change(&mut value);
        let message = Config::parse(value).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn reads_a_published_style_config() {
        let config = Config::parse(golden()).unwrap();
        assert_eq!(config.text.family, TextFamily::Qwen2);
        assert_eq!(
            (
                config.text.heads,
                config.text.kv_heads,
                config.text.head_dim()
            ),
            (4, 2, 16)
        );
        assert_eq!(config.vision.layers_run, 2);
        assert_eq!(config.tokens_per_tile(), 4);
        assert_eq!(config.template, Some(Template::Hermes2));
        assert!(config.tiles.dynamic && config.tiles.max_tiles == 6);
    }

    #[test]
    fn refuses_by_name_what_it_cannot_compute() {
        refused(
            |c| c["llm_config"]["architectures"] = json!(["MambaForCausalLM"]),
            "llm_config: architecture MambaForCausalLM",
        );
        refused(
            |c| c["vision_config"]["norm_type"] = json!("rms_norm"),
            "vision_config: norm_type: \"rms_norm\"",
        );
        refused(
            |c| c["vision_config"]["qk_normalization"] = json!(true),
            "qk_normalization",
        );
        refused(
            |c| c["llm_config"]["rope_scaling"] = json!({"type": "dynamic"}),
            "rope_scaling",
        );
        refused(
            |c| c["llm_config"]["use_sliding_window"] = json!(true),
            "use_sliding_window",
        );
        refused(|c| c["ps_version"] = json!("v1"), "ps_version");
        refused(
            |c| c["force_image_size"] = json!(448),
            "force_image_size 448",
        );
        refused(|c| c["select_layer"] = json!(-9), "select_layer -9");
        refused(|c| c["model_type"] = json!("llava"), "internvl_chat");
    }

    #[test]
    fn refuses_sizes_that_do_not_divide() {
        refused(
            |c| c["llm_config"]["num_key_value_heads"] = json!(3),
            "does not divide num_attention_heads (4)",
        );
        refused(
            |c| c["vision_config"]["patch_size"] = json!(13),
            "does not divide image_size (56)",
        );
        refused(
            |c| c["downsample_ratio"] = json!(0.3),
            "expected 1/n, got 0.3",
        );
        refused(
            |c| c["llm_config"]["hidden_size"] = json!("64"),
            "hidden_size: expected a positive integer, got \"64\"",
        );
        refused(
            |c| c["llm_config"]["hidden_size"] = Value::Null,
            "got nothing",
        );
    }
}
