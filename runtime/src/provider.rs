//! ONNX Runtime's execution providers for GPUs and their options, under ONNX Runtime's names.

use std::fs;
use std::path::{Path, PathBuf};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use seeward_models::bundle::{Bundle, Manifest};
use seeward_models::contract::{Contract, Dim};
use seeward_models::image::ImageSettings;
use seeward_models::kinds::Precision;

use crate::{Device, Error, Options, Result};

type Setting = (&'static str, String);

/// Rewards of a typical run, for which TensorRT chooses its kernels; all runs use them.
const USUAL_REWARDS: usize = 16;

/// The device's providers for a graph with this contract, best first; none for the CPU.
pub(crate) fn providers(
    bundle: &Bundle,
    contract: &Contract,
    options: &Options,
) -> Result<Vec<ExecutionProviderDispatch>> {
    let cuda = |index| set(ep::CUDA::default(), cuda(index, options)).build();
    match options.device {
        Device::Cpu => Ok(Vec::new()),
        Device::Cuda(index) => Ok(vec![cuda(index)]),
        Device::Tensorrt(index) => {
            let engines = engines(bundle, options)?;
            let mut settings = tensorrt(index, bundle.manifest(), contract, options);
            settings.extend(engines.iter().flat_map(|folder| caches(folder)));
            let tensorrt = set(ep::TensorRT::default(), settings).build();
            Ok(vec![tensorrt, cuda(index)])
        }
    }
}

fn set<P: ArbitrarilyConfigurableExecutionProvider>(provider: P, settings: Vec<Setting>) -> P {
    let set = |provider: P, (name, value)| provider.with_arbitrary_config(name, value);
    settings.into_iter().fold(provider, set)
}

/// No TF32, ONNX Runtime's default: products in fp32 are fp32. Memory grows by the requested size instead of by doubling, since
/// other programs may use the GPU too. The kernel of a convolution is looked up, not chosen by timing, which would let equal
/// runs round differently.
fn cuda(index: u32, options: &Options) -> Vec<Setting> {
    let mut settings = vec![
        ("device_id", index.to_string()),
        ("use_tf32", "0".to_owned()),
        ("arena_extend_strategy", "kSameAsRequested".to_owned()),
        ("cudnn_conv_algo_search", "HEURISTIC".to_owned()),
    ];
    let limit = options.gpu_memory_limit;
    settings.extend(limit.map(|bytes| ("gpu_mem_limit", bytes.to_string())));
    settings
}

/// Shapes are set beforehand: TensorRT would otherwise rebuild its engine, for minutes, whenever a run is larger than all
/// before. Weights are passed in memory, as a graph of more than 2 GB cannot hold them.
fn tensorrt(
    index: u32,
    manifest: &Manifest,
    contract: &Contract,
    options: &Options,
) -> Vec<Setting> {
    let extents = Extents { manifest, options };
    let shapes = |size: fn(Extent) -> usize| extents.shapes(contract, size);
    let on = "1".to_owned();
    let mut settings = vec![
        ("device_id", index.to_string()),
        ("trt_profile_min_shapes", shapes(|extent| extent.least)),
        ("trt_profile_opt_shapes", shapes(|extent| extent.usual)),
        ("trt_profile_max_shapes", shapes(|extent| extent.most)),
        ("trt_load_user_initializer", on.clone()),
    ];
    let narrow = match manifest.precision {
        Precision::Fp16 => Some("trt_fp16_enable"),
        Precision::Bf16 => Some("trt_bf16_enable"),
        Precision::Fp32 | Precision::Int8 | Precision::Int4 => None,
    };
    if let Some(narrow) = narrow {
        settings.push((narrow, on.clone()));
        settings.push(("trt_layer_norm_fp32_fallback", on));
    }
    let limit = options.gpu_memory_limit;
    settings.extend(limit.map(|bytes| ("trt_max_workspace_size", bytes.to_string())));
    settings
}

/// The cache folder of the bundle's engines, created if missing. ONNX Runtime identifies an engine by the names in its graph,
/// which are the same in every bundle of an architecture, whatever the weights: so each bundle has its own folder.
fn engines(bundle: &Bundle, options: &Options) -> Result<Option<PathBuf>> {
    let Some(cache) = &options.cache_dir else {
        return Ok(None);
    };
    let folder = cache.join(bundle.hash());
    fs::create_dir_all(&folder)
        .map_err(|e| Error::Options(format!("cache_dir: {}: {e}", folder.display())))?;
    Ok(Some(folder))
}

fn caches(folder: &Path) -> [Setting; 4] {
    let on = "1".to_owned();
    let path = folder.display().to_string();
    [
        ("trt_engine_cache_enable", on.clone()),
        ("trt_engine_cache_path", path.clone()),
        ("trt_timing_cache_enable", on),
        ("trt_timing_cache_path", path),
    ]
}

/// The range of a dimension, and the size for which TensorRT chooses its kernels.
struct Extent {
    least: usize,
    usual: usize,
    most: usize,
}

/// The ranges of the dimensions of a bundle's graphs.
struct Extents<'a> {
    manifest: &'a Manifest,
    options: &'a Options,
}

impl Extents<'_> {
    /// The shapes of a graph's inputs, as `name:1x2,name:3`.
    fn shapes(&self, contract: &Contract, size: fn(Extent) -> usize) -> String {
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Free(name) => size(self.of(name)).to_string(),
        };
        let inputs = contract.inputs.iter().map(|input| {
            let dims: Vec<String> = input.dims.iter().map(dim).collect();
            format!("{}:{}", input.name, dims.join("x"))
        });
        inputs.collect::<Vec<_>>().join(",")
    }

    /// A run is one row ([`Device::most_rows`]); its image tokens and rewards are no more than its tokens, and its rope
    /// entries no more than twice as many, once as text and once in an image.
    fn of(&self, dim: &str) -> Extent {
        let usual = self.options.batch_tokens;
        let most = usual.max(self.manifest.prompt.max_length);
        let most = most.next_multiple_of(self.options.device.row_multiple());
        let units = self.manifest.images.most_units();
        let image_tokens = units * self.manifest.prompt.tokens_per_tile;
        let (least, usual, most) = match dim {
            "rows" => (1, 1, 1),
            "tiles" => (1, units, units),
            "patches" => self.patches(image_tokens),
            "images" => (0, image_tokens.clamp(1, most), most),
            "rewards" => (1, USUAL_REWARDS.min(most), most),
            "entries" if self.manifest.rope.sections.is_some() => (1, usual, 2 * most),
            _ => (1, usual, most),
        };
        Extent { least, usual, most }
    }

    /// Of an image that is a grid of up to `tokens` tokens.
    fn patches(&self, tokens: usize) -> (usize, usize, usize) {
        let per_token = match &self.manifest.images {
            ImageSettings::Tiles(_) => 1,
            ImageSettings::Grid(settings) => (settings.merge as usize).pow(2),
        };
        let most = tokens.min(self.manifest.prompt.max_length) * per_token;
        (per_token, most, most)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seeward_models::contract::{reward_contract, vision_contract};
    use seeward_models::image::TileSettings;

    use super::*;

    /// The names in ort's own setters of `ep::CUDA`.
    const CUDA_NAMES: &str =
        "device_id gpu_mem_limit arena_extend_strategy cudnn_conv_algo_search use_tf32";
    /// The names in ort's own setters of `ep::TensorRT`; the last is from ONNX Runtime's pull request 25409.
    const TENSORRT_NAMES: &str = "device_id trt_max_workspace_size trt_fp16_enable trt_bf16_enable trt_engine_cache_enable \
        trt_engine_cache_path trt_timing_cache_enable trt_timing_cache_path trt_layer_norm_fp32_fallback \
        trt_profile_min_shapes trt_profile_opt_shapes trt_profile_max_shapes trt_load_user_initializer";

    fn bundle() -> Bundle {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/bundles/qwen2");
        Bundle::open(&golden).unwrap()
    }

    fn tiles() -> TileSettings {
        TileSettings {
            image_size: 448,
            dynamic: true,
            use_thumbnail: true,
            min_tiles: 1,
            max_tiles: 6,
            pad2square: false,
        }
    }

    fn manifest(precision: Precision) -> Manifest {
        let mut manifest = bundle().manifest().clone();
        manifest.precision = precision;
        manifest.images = ImageSettings::Tiles(tiles());
        manifest.prompt.tokens_per_tile = 256;
        manifest.prompt.max_length = 4096;
        manifest
    }

    fn options(gpu_memory_limit: Option<u64>) -> Options {
        let options = Options::default().device(Device::Tensorrt(1));
        options.gpu_memory_limit(gpu_memory_limit)
    }

    fn map(settings: Vec<Setting>, names: &str) -> BTreeMap<&'static str, String> {
        let count = settings.len();
        let map: BTreeMap<_, _> = settings.into_iter().collect();
        assert_eq!(map.len(), count, "set twice: {map:?}");
        let known: Vec<&str> = names.split_whitespace().collect();
        assert!(map.keys().all(|name| known.contains(name)), "{map:?}");
        map
    }

    #[test]
    fn cuda_is_set_to_be_exact_and_modest() {
        let settings = map(cuda(1, &options(None)), CUDA_NAMES);
        assert_eq!(settings["device_id"], "1");
        assert_eq!(settings["use_tf32"], "0");
        assert_eq!(settings["arena_extend_strategy"], "kSameAsRequested");
        assert_eq!(settings["cudnn_conv_algo_search"], "HEURISTIC");
        assert!(!settings.contains_key("gpu_mem_limit"));
        let settings = map(cuda(1, &options(Some(1 << 33))), CUDA_NAMES);
        assert_eq!(settings["gpu_mem_limit"], "8589934592");
    }

    #[test]
    fn tensorrt_knows_every_shape_beforehand() {
        let manifest = manifest(Precision::Fp32);
        let profile = |contract: &Contract, batch_tokens: usize| {
            let options = options(None).batch_tokens(batch_tokens);
            let settings = tensorrt(0, &manifest, contract, &options);
            let settings = map(settings, TENSORRT_NAMES);
            ["min", "opt", "max"]
                .map(|which| settings[&*format!("trt_profile_{which}_shapes")].clone())
        };
        assert_eq!(
            profile(&vision_contract(&manifest.images, 256, 896), 6144),
            [
                "pixels:1x448x448x3",
                "pixels:7x448x448x3",
                "pixels:7x448x448x3"
            ]
        );
        let reward = |rows: &str, images: &str, entries: &str, rewards: &str| {
            format!(
                "input_ids:{rows},position_ids:{rows},document_ids:{rows},branch_ids:{rows},\
                 image_embeds:{images}x896,image_positions:{images},\
                 rope_cos:{entries}x32,rope_sin:{entries}x32,reward_positions:{rewards}"
            )
        };
        let contract = reward_contract(896, 64);
        assert_eq!(
            profile(&contract, 6144),
            [
                reward("1x1", "0", "1", "1"),
                reward("1x6144", "1792", "6144", "16"),
                reward("1x6144", "6144", "6144", "6144")
            ]
        );
        // A conversation may be longer than the budget of a run.
        assert_eq!(
            profile(&contract, 2048)[2],
            reward("1x4096", "4096", "4096", "4096")
        );
    }

    #[test]
    fn tensorrt_is_as_precise_as_the_bundle() {
        let contract = vision_contract(&ImageSettings::Tiles(tiles()), 256, 896);
        let settings = |precision: Precision, limit: Option<u64>| {
            let settings = tensorrt(1, &manifest(precision), &contract, &options(limit));
            map(settings, TENSORRT_NAMES)
        };
        let on = |precision: Precision| {
            let settings = settings(precision, None);
            [
                "trt_fp16_enable",
                "trt_bf16_enable",
                "trt_layer_norm_fp32_fallback",
            ]
            .map(|name| settings.get(name).is_some_and(|value| value == "1"))
        };
        assert_eq!(on(Precision::Fp32), [false, false, false]);
        assert_eq!(on(Precision::Fp16), [true, false, true]);
        assert_eq!(on(Precision::Bf16), [false, true, true]);
        let settings = settings(Precision::Fp32, Some(1 << 30));
        assert_eq!(settings["device_id"], "1");
        assert_eq!(settings["trt_load_user_initializer"], "1");
        assert_eq!(settings["trt_max_workspace_size"], "1073741824");
    }

    #[test]
    fn every_bundle_has_its_own_engines() {
        let cache = tempfile::tempdir().unwrap();
        let options = options(None).cache_dir(cache.path().join("engines"));
        let bundle = bundle();
        let folder = engines(&bundle, &options).unwrap().unwrap();
        assert!(folder.is_dir() && folder.ends_with(bundle.hash()));
        let settings = map(caches(&folder).to_vec(), TENSORRT_NAMES);
        assert_eq!(settings["trt_engine_cache_enable"], "1");
        assert_eq!(settings["trt_timing_cache_enable"], "1");
        let path = folder.display().to_string();
        assert_eq!(settings["trt_engine_cache_path"], path);
        assert_eq!(settings["trt_timing_cache_path"], path);
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = options.cache_dir(file.path());
        let message = engines(&bundle, &options).unwrap_err().to_string();
        assert!(message.contains("cache_dir: "), "{message}");
    }
}
