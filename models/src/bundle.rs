//! The exported folder: two ONNX graphs, the tokenizer, and `reward_model.json`, which describes them and
//! holds the sha256 of every file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::atomic::replace_file;
use crate::forest::ModelFlops;
use crate::hash::{add_hashes, file_hash, hash};
use crate::image::{ImageSettings, PIXELS_VERSION, first_pixels_version};
use crate::kinds::{InputMode, Precision, Target, Transparency};
use crate::probe::{LOSSY_TOLERANCE, Probe, Tolerance};
use crate::prompt::PromptSettings;
use crate::reading::RewardAt;
use crate::rope::RopeSettings;
use crate::{Error, Result};

/// The manifest's name in the folder.
pub const MANIFEST_FILE: &str = "reward_model.json";
/// The vision graph; absent where the exported branch has no vision.
pub const VISION_GRAPH: &str = "vision.onnx";
/// The reward graph.
pub const REWARD_GRAPH: &str = "reward.onnx";
/// Version of this layout. Version 1, which is read too, has `tiles` in the place of `images`, and image embeddings as wide as
/// the language model.
pub const FORMAT_VERSION: u32 = 2;

/// `reward_model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT_VERSION`]: manifests of older versions are read as if they had it.
    pub format_version: u32,
    /// The language model's architecture, as config.json names it.
    pub family: String,
    /// The execution provider of the graphs.
    pub target: Target,
    /// Precision of the weights.
    pub precision: Precision,
    /// Inputs of a layer in int8 that share a scale. Absent in other precisions, and in bundles of version 0.2 and older,
    /// which have one scale for all inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<usize>,
    /// ONNX operator set.
    pub opset: u32,
    /// Width of the language model.
    pub hidden_size: usize,
    /// Width of the image embeddings: that of the language model, once for every layer that reads them.
    pub image_width: usize,
    /// The settings of the rope tables.
    pub rope: RopeSettings,
    /// The amount of computation of the language model, which decides how rows are packed; bundles older than this field
    /// have the default.
    #[serde(default)]
    pub work: ModelFlops,
    /// Template, image tokens per tile, length limit.
    pub prompt: PromptSettings,
    /// The [version](PIXELS_VERSION) of the pixels of the program that exported it.
    #[serde(default = "first_pixels_version")]
    pub pixels_version: u32,
    /// The settings of images.
    pub images: ImageSettings,
    /// What becomes of transparent pixels; bundles older than this field drop alpha.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transparency: Transparency,
    /// Where a reward is read; bundles older than this field read it at the last token.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reward_at: RewardAt,
    /// The parts of a request that the model sees.
    pub input_mode: InputMode,
    /// Mean reward over the trainer's evaluation set, when it measured one.
    pub reward_mean: Option<f64>,
    /// Standard deviation over the same set.
    pub reward_std: Option<f64>,
    /// Added to every reward; bundles whose mean error was not corrected have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_offset: Option<RewardOffset>,
    /// Rows with the rewards that training measured; none for a checkpoint trained elsewhere.
    pub probes: Vec<Probe>,
    /// Tolerance of a probe's reward in a precision that is not lossy, times max(1, |reward|).
    pub probe_tolerance: f64,
    /// The checkpoint that was exported.
    pub checkpoint: String,
    /// Tokenizer files, relative to the folder.
    pub tokenizer: Vec<String>,
    /// sha256 of every other file of the folder, by relative path.
    pub files: BTreeMap<String, String>,
}

/// A correction of the mean error of a lossy precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardOffset {
    /// Minus the mean error.
    pub value: f32,
    /// Number of rows over which it was measured.
    pub rows: usize,
    /// The rows: `probes`, or a file.
    pub from: String,
}

impl Manifest {
    /// The errors of the probes' rewards with which the bundle still counts as trained. Older bundles of a lossy precision
    /// have a tolerance without regard to the spread, which says nothing.
    pub fn tolerance(&self) -> Tolerance {
        match self.precision.is_lossy() {
            true => Tolerance::ShareOfSpread(LOSSY_TOLERANCE),
            false => Tolerance::Largest(self.probe_tolerance),
        }
    }

    /// Advice to export the bundle again: how it is quantized loses too much of trained weights.
    pub fn outdated_precision(&self) -> Option<&'static str> {
        match (self.precision, self.group_size) {
            (Precision::Int4, _) => Some(
                "int4 is withdrawn, because its errors are as large as the margins between responses; export again with \
                 --quantize int8",
            ),
            (Precision::Int8, None) => Some(
                "int8 of version 0.2 and older loses much of trained weights; export again for int8 that holds",
            ),
            _ => None,
        }
    }

    /// Refuses sizes that no model has: they are slips and would overflow later computations.
    fn check(&self) -> Result<()> {
        self.images.validate()?;
        self.rope.check()?;
        if let Some(offset) = &self.reward_offset
            && !offset.value.is_finite()
        {
            let problem = "reward_offset: expected a finite value";
            return Err(Error::invalid(problem));
        }
        if self.pixels_version > PIXELS_VERSION {
            return Err(Error::invalid(format!(
                "pixels_version: expected at most {PIXELS_VERSION}, got {}: exported by a newer version, which reads images \
                 otherwise",
                self.pixels_version
            )));
        }
        // In a model without vision, a tile has no tokens.
        let least = usize::from(self.files.contains_key(VISION_GRAPH));
        let sizes = [
            ("hidden_size", self.hidden_size, 1),
            ("image_width", self.image_width, 1),
            ("tokens_per_tile", self.prompt.tokens_per_tile, least),
            ("max_length", self.prompt.max_length, 1),
        ];
        let most = 1 << 24;
        let odd = |&&(_, size, least): &&(&str, usize, usize)| !(least..=most).contains(&size);
        match sizes.iter().find(odd) {
            None => Ok(()),
            Some((name, size, least)) => Err(Error::invalid(format!(
                "{name}: expected {least} to {most}, got {size}"
            ))),
        }
    }
}

/// A bundle's folder with its manifest, read and checked.
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    hash: String,
}

impl Bundle {
    /// Reads the manifest, checks that every file exists and compares the hashes of the small ones. [`Bundle::verify`]
    /// checks the weights too.
    ///
    /// # Errors
    /// A manifest of another format or with impossible values; a file that is missing or has changed.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let manifest = Manifest::parse(&text).map_err(|e| e.at(path.display()))?;
        manifest.check().map_err(|e| e.at(path.display()))?;
        let bundle = Self {
            folder: folder.to_owned(),
            manifest,
            hash: hash(&text),
        };
        bundle.check_files(|name| !name.ends_with(".data"))?;
        Ok(bundle)
    }

    /// Checks every file's hash.
    ///
    /// # Errors
    /// A file that is missing or has changed.
    pub fn verify(&self) -> Result<()> {
        self.check_files(|_| true)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// sha256 of the manifest, and so of the whole bundle: the manifest holds every file's hash.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The vision graph, unless the branch has none.
    pub fn vision_graph(&self) -> Option<PathBuf> {
        self.manifest
            .files
            .contains_key(VISION_GRAPH)
            .then(|| self.folder.join(VISION_GRAPH))
    }

    /// The reward graph.
    pub fn reward_graph(&self) -> PathBuf {
        self.folder.join(REWARD_GRAPH)
    }

    /// Replaces the reward offset in the folder's manifest.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn set_reward_offset(&self, offset: RewardOffset) -> Result<()> {
        let manifest = Manifest {
            reward_offset: Some(offset),
            ..self.manifest.clone()
        };
        replace_manifest(&self.folder, &manifest)
    }

    fn check_files(&self, hashed: impl Fn(&str) -> bool) -> Result<()> {
        for (name, expected) in &self.manifest.files {
            let path = self.folder.join(name);
            let got = if hashed(name) {
                file_hash(&path)?
            } else {
                exists(&path).map(|()| expected.clone())?
            };
            if got != *expected {
                let problem = format!(
                    "expected sha256 {expected}, got {got}: the file has changed since the export"
                );
                return Err(Error::invalid(problem).at(path.display()));
            }
        }
        Ok(())
    }
}

impl Manifest {
    /// Reads a manifest of any version, as one of the current version. Its values are not checked.
    ///
    /// # Errors
    /// Another version, or keys that are not those of the version.
    pub fn parse(text: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(text).map_err(Error::invalid)?;
        // First of all: the keys of another version are not those of this one.
        match json["format_version"].as_u64() {
            Some(1) => {
                upgrade(&mut json)?;
                serde_json::from_value(json).map_err(Error::invalid)
            }
            Some(version) if version == u64::from(FORMAT_VERSION) => {
                serde_json::from_str(text).map_err(Error::invalid)
            }
            _ => Err(Error::invalid(format!(
                "expected format_version 1 or {FORMAT_VERSION}, got {}",
                json["format_version"]
            ))),
        }
    }
}

/// Turns a manifest of version 1 into one of version 2.
fn upgrade(json: &mut Value) -> Result<()> {
    let missing = |key: &str| Error::invalid(format!("missing field `{key}`"));
    let manifest = json.as_object_mut().ok_or_else(|| missing("tiles"))?;
    let tiles = manifest.remove("tiles").ok_or_else(|| missing("tiles"))?;
    let width = manifest.get("hidden_size").cloned();
    let width = width.ok_or_else(|| missing("hidden_size"))?;
    manifest.insert("images".to_owned(), json!({ "tiles": tiles }));
    manifest.insert("image_width".to_owned(), width);
    manifest.insert("format_version".to_owned(), json!(FORMAT_VERSION));
    Ok(())
}

/// Adds the missing hashes of the files in `folder` to `manifest`, and writes it there.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write_manifest(folder: &Path, mut manifest: Manifest) -> Result<()> {
    add_hashes(folder, &mut manifest.files)?;
    replace_manifest(folder, &manifest)
}

fn replace_manifest(folder: &Path, manifest: &Manifest) -> Result<()> {
    let json = serde_json::to_string_pretty(manifest).map_err(Error::invalid)?;
    replace_file(&folder.join(MANIFEST_FILE), (json + "\n").as_bytes())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn exists(path: &Path) -> Result<()> {
    std::fs::metadata(path)
        .map(|_| ())
        .map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_version() -> String {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/bundles/qwen2");
        std::fs::read_to_string(Path::new(golden).join(MANIFEST_FILE)).unwrap()
    }

    #[test]
    fn the_first_version_is_read_as_the_current_one() {
        let manifest = Manifest::parse(&first_version()).unwrap();
        assert_eq!(manifest.format_version, FORMAT_VERSION);
        assert_eq!(manifest.image_width, manifest.hidden_size);
        let old: Value = serde_json::from_str(&first_version()).unwrap();
        let images = serde_json::to_value(manifest.images).unwrap();
        assert_eq!(images, json!({ "tiles": old["tiles"] }));
        let written = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::parse(&written).unwrap(), manifest);
    }

    #[test]
    fn the_version_is_read_before_the_rest() {
        let problem = |text: &str| Manifest::parse(text).unwrap_err().to_string();
        let unknown = problem(r#"{"format_version": 3, "later": true}"#);
        assert_eq!(unknown, "expected format_version 1 or 2, got 3");
        let missing = problem(r#"{"opset": 23}"#);
        assert_eq!(missing, "expected format_version 1 or 2, got null");
        let without_tiles = problem(r#"{"format_version": 1, "hidden_size": 8}"#);
        assert_eq!(without_tiles, "missing field `tiles`");
    }
}
