//! The exported folder: two ONNX graphs, the tokenizer, and `reward_model.json` that says what they are and holds the
//! sha256 of every file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::forest::Work;
use crate::hash::{add_hashes, file_hash, hash};
use crate::image::TileSettings;
use crate::net::rope::RopeSettings;
use crate::probe::Probe;
use crate::prompt::PromptSettings;
use crate::{Error, Result};

/// The manifest's name in the folder.
pub const MANIFEST_FILE: &str = "reward_model.json";
/// The vision graph; absent where the exported branch has no vision.
pub const VISION_GRAPH: &str = "vision.onnx";
/// The reward graph.
pub const REWARD_GRAPH: &str = "reward.onnx";
/// The domain of the operators that the runtime adds to ONNX Runtime's.
pub const OPERATORS: &str = "seeward";
/// The one for attention: (query, key, value, documents?, branches?) → mixed values, with the attributes `q_num_heads` and
/// `kv_num_heads` of ONNX's `Attention`.
pub const FOREST_ATTENTION: &str = "ForestAttention";
/// The one for inputs of linear layers in integers: (x) → (integers, steps), with the attributes `zero`, the integer for
/// zero, and `above`, how many above it are used.
pub const QUANTIZE_ROWS: &str = "QuantizeRows";
/// The one for linear layers in integers: (integers, steps, weights, scales, sums of weights, bias?) → numbers, with the
/// attribute `zero`. Weights i8 [outputs, inputs] are packed as processors multiply them: [panels, groups, outputs of a
/// panel, inputs of a group], with zeros where outputs or inputs are missing.
pub const INT8_LINEAR: &str = "Int8Linear";
/// The one for the first half of feed-forward layers in integers: (integers, steps, and one or two layers as
/// [`INT8_LINEAR`] has them) → (integers, steps), with the attributes `zero`, `hidden_zero` and `hidden_above`.
pub const INT8_HIDDEN: &str = "Int8Hidden";
/// Outputs of a panel of packed weights.
pub const PANEL_OUTPUTS: usize = 64;
/// Inputs of a group of packed weights.
pub const PANEL_GROUP: usize = 4;
/// Version of this layout.
pub const FORMAT_VERSION: u32 = 1;

/// Element type of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Unsigned byte.
    U8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
}

/// One dimension of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Chosen at run time; equal names are equal sizes.
    Free(&'static str),
    /// Known when the graph is made.
    Fixed(usize),
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Its element type.
    pub element: Element,
    /// Its shape.
    pub dims: Vec<Dim>,
}

/// Inputs and outputs of one graph, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// What is fed.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
}

fn port(name: &'static str, element: Element, dims: &[Dim]) -> Port {
    Port {
        name,
        element,
        dims: dims.to_vec(),
    }
}

/// The vision graph: u8 pixels [tiles, H, W, 3] → f32 image embeddings [tiles, tokens, width].
pub fn vision_contract(image_size: usize, tokens_per_tile: usize, width: usize) -> Contract {
    let tiles = Dim::Free("tiles");
    let side = Dim::Fixed(image_size);
    Contract {
        inputs: vec![port(
            "pixels",
            Element::U8,
            &[tiles, side, side, Dim::Fixed(3)],
        )],
        outputs: vec![port(
            "image_embeds",
            Element::F32,
            &[tiles, Dim::Fixed(tokens_per_tile), Dim::Fixed(width)],
        )],
    }
}

/// The reward graph: a forest, its image embeddings and rope tables → f32 rewards [k]. Names and order are those of
/// [`crate::net::RewardInputs`].
pub fn reward_contract(width: usize, head_dim: usize) -> Contract {
    use Element::{F32, I32, I64};
    let forest = [Dim::Free("rows"), Dim::Free("tokens")];
    let images = Dim::Free("images");
    let table = [Dim::Free("entries"), Dim::Fixed(head_dim / 2)];
    let rewards = [Dim::Free("rewards")];
    Contract {
        inputs: vec![
            port("input_ids", I64, &forest),
            port("position_ids", I64, &forest),
            port("document_ids", I32, &forest),
            port("branch_ids", I32, &forest),
            port("image_embeds", F32, &[images, Dim::Fixed(width)]),
            port("image_positions", I64, &[images]),
            port("rope_cos", F32, &table),
            port("rope_sin", F32, &table),
            port("reward_positions", I64, &rewards),
        ],
        outputs: vec![port("rewards", F32, &rewards)],
    }
}

/// What a bundle is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Standard ONNX operators only; runs wherever they have kernels.
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

/// What of a request the model was trained to see; score and evaluate obey it.
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

/// `reward_model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The language model's architecture, as config.json names it.
    pub family: String,
    /// What the graphs are made for.
    pub target: Target,
    /// Precision of the weights.
    pub precision: Precision,
    /// ONNX operator set.
    pub opset: u32,
    /// Width of the language model: last dimension of `image_embeds`.
    pub hidden_size: usize,
    /// How rope tables are made.
    pub rope: RopeSettings,
    /// What the language model computes, which decides how rows are packed; the default in bundles older than this field.
    #[serde(default)]
    pub work: Work,
    /// Template, image tokens per tile, length limit.
    pub prompt: PromptSettings,
    /// How pictures become tiles.
    pub tiles: TileSettings,
    /// What of a request the model sees.
    pub input_mode: InputMode,
    /// Mean reward over the trainer's evaluation set, when it measured one.
    pub reward_mean: Option<f64>,
    /// Standard deviation over the same set.
    pub reward_std: Option<f64>,
    /// Rows with the rewards that training measured; none for a checkpoint trained elsewhere.
    pub probes: Vec<Probe>,
    /// How far a probe's reward may be off, times max(1, |reward|), in this precision.
    pub probe_tolerance: f64,
    /// The checkpoint that was exported.
    pub checkpoint: String,
    /// Tokenizer files, relative to the folder.
    pub tokenizer: Vec<String>,
    /// sha256 of every other file of the folder, by relative path.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Sizes that no model has are slips, and would overflow what is computed with them.
    fn check(&self) -> Result<()> {
        self.tiles.validate()?;
        self.rope.check()?;
        // A tile is no tokens to a model without vision.
        let least = usize::from(self.files.contains_key(VISION_GRAPH));
        let sizes = [
            ("hidden_size", self.hidden_size, 1),
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
    /// Reads the manifest and checks that every file is there and that the small ones have their hashes. Weights are
    /// checked by [`Bundle::verify`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| Error::invalid(e).at(path.display()))?;
        if manifest.format_version != FORMAT_VERSION {
            let problem = format!(
                "expected format_version {FORMAT_VERSION}, got {}",
                manifest.format_version
            );
            return Err(Error::invalid(problem).at(path.display()));
        }
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
    pub fn verify(&self) -> Result<()> {
        self.check_files(|_| true)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// sha256 of the manifest; as it holds every file's hash, of the whole bundle.
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

/// Completes `manifest` with the hashes of the files in `folder` that it lacks, and writes it there.
pub fn write_manifest(folder: &Path, mut manifest: Manifest) -> Result<()> {
    add_hashes(folder, &mut manifest.files)?;
    let json = serde_json::to_string_pretty(&manifest).map_err(Error::invalid)?;
    crate::folder::replace_file(&folder.join(MANIFEST_FILE), (json + "\n").as_bytes())
}

fn exists(path: &Path) -> Result<()> {
    std::fs::metadata(path)
        .map(|_| ())
        .map_err(|e| Error::io(path, e))
}
