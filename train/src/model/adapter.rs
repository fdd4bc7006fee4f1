//! Low-rank additions on the disk: a folder next to the checkpoint's merged weights, which PEFT loads over the model that
//! the branch started from, and from which a run resumes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use seeward_models::atomic::replace_file;
use seeward_models::checkpoint::{Checkpoint, Dtype, Names, TensorData, write_tensors};
use seeward_models::config::Config as ModelConfig;
use seeward_models::net::{self, Branch};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::config::Config;
use crate::libtorch::lora::{self, A, B, Layer};
use crate::libtorch::parameters::{Parameters, data, read};
use crate::libtorch::precision::Precision;
use crate::model::branch::Model;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// The prefix of module names in PEFT.
const PREFIX: &str = "base_model.model.";

/// The adapter's folder inside a checkpoint.
pub(crate) fn folder(branch: Branch) -> &'static str {
    match branch {
        Branch::Main => "adapter",
        Branch::TextOnly => "adapter_text_only",
    }
}

/// The tensors of a branch's adapter: the additions in fp32, and the parts that train in full, rounded as in the
/// checkpoint. Empty without additions.
pub(crate) fn tensors<'a>(config: &Config, model: &'a Model) -> Vec<TensorData<'a>> {
    let parameters = &model.parameters;
    if lora::layers(config, &model.config).is_empty() {
        return Vec::new();
    }
    let names = net::names_after(PREFIX, &model.config);
    let own = parameters.trainable().filter_map(|(name, tensor)| {
        let local = format!("{PREFIX}{}", model.branch.strip(name)?);
        let dtype = match lora::is_addition(name) {
            true => Dtype::F32,
            false => parameters.precision().dtype(),
        };
        let tensor = data(&local, tensor, dtype);
        // Layers that are separate in a file read the same inputs.
        Some(match local.ends_with(A) {
            true => tensor.repeated(&names),
            false => tensor.stored(&names),
        })
    });
    own.flatten().collect()
}

/// Writes a branch's adapter into a checkpoint, if it has additions.
///
/// # Errors
/// The disk fails.
pub(crate) fn write(checkpoint: &Path, config: &Config, model: &Model) -> Result<()> {
    let tensors = tensors(config, model);
    if tensors.is_empty() {
        return Ok(());
    }
    let folder = checkpoint.join(folder(model.branch));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let text = serde_json::to_string_pretty(&settings(config, model))? + "\n";
    replace_file(&folder.join(CONFIG), text.as_bytes())?;
    Ok(write_tensors(&folder.join(WEIGHTS), tensors)?)
}

/// PEFT's `LoraConfig`.
fn settings(config: &Config, model: &Model) -> Value {
    let base = match (model.branch, &config.bias_model_path) {
        (Branch::TextOnly, Some(path)) => path,
        _ => &config.model_name_or_path,
    };
    let names = net::names_after("", &model.config);
    let layers = lora::layers(config, &model.config);
    let targets = layers.iter().flat_map(|layer| modules(layer, &names));
    json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": base,
        "r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": sorted(targets),
        "modules_to_save": sorted(whole_parts(model, &names)),
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "inference_mode": true,
    })
}

/// The names of a layer's modules inside their block, by which PEFT finds them.
fn modules(layer: &Layer, names: &Names) -> Vec<String> {
    let is_number = |part: &str| part.parse::<usize>().is_ok();
    let inner = |name: &String| {
        let mut parts = name.split('.').skip_while(|part| !is_number(part));
        parts.next();
        parts.collect::<Vec<_>>().join(".")
    };
    names.stored(&layer.name).iter().map(inner).collect()
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The modules that are saved in full.
fn whole_parts(model: &Model, names: &Names) -> impl Iterator<Item = String> {
    let parameters = net::parameters(&model.config, model.branch).into_iter();
    let trained = parameters.filter(|parameter| {
        let tensor = model.parameters.find(&parameter.name);
        tensor.is_some_and(|tensor| tensor.requires_grad())
    });
    trained.flat_map(move |parameter| {
        let local = model.branch.strip(&parameter.name).unwrap_or_default();
        let module = |name: String| name.split('.').next().map(str::to_owned);
        names.stored(local).into_iter().filter_map(module)
    })
}

/// The inverse of the merge: splits a branch's merged weights into those of its base and low-rank additions.
pub(crate) struct LoraRestore<'a> {
    /// The branch.
    pub(crate) branch: Branch,
    /// Its configuration.
    pub(crate) config: &'a ModelConfig,
    /// The layers that have additions.
    pub(crate) layers: Vec<Layer>,
    /// The checkpoint that holds merged weights and the adapter.
    pub(crate) merged: &'a Path,
    /// The checkpoint that the branch started from, and the prefix of its names there.
    pub(crate) base: (&'a Path, String),
    /// The device of the tensors.
    pub(crate) device: Device,
}

impl LoraRestore<'_> {
    /// Replaces the merged weights by those of the base, and adds the adapter's additions.
    ///
    /// # Errors
    /// A file that cannot be read, or a base other than the one that was merged.
    pub(crate) fn restore(&self, parameters: &mut Parameters) -> Result<()> {
        let base =
            ModelConfig::open(self.base.0).and_then(|config| net::open(self.base.0, &config));
        let (base, _) = base.with_context(|| {
            let base = self.base.0.display();
            format!("resuming a LoRA run needs its original base model at {base}")
        })?;
        let file = self.merged.join(folder(self.branch)).join(WEIGHTS);
        let adapter = Checkpoint::open_file(&file)?;
        let names = net::names_after(PREFIX, self.config);
        for layer in &self.layers {
            let name = format!("{}{}", self.branch.prefix(), layer.name);
            for (end, shape) in [(A, [-1, layer.input]), (B, [layer.output, -1])] {
                let stored = names.stored(&format!("{PREFIX}{}{end}", layer.name));
                let tensor = self.joined(&adapter, &stored, end)?;
                ensure!(
                    fits(&tensor, shape),
                    "{}: {}: expected {shape:?}, got {:?}",
                    file.display(),
                    stored.join(" + "),
                    tensor.size()
                );
                parameters.insert(format!("{name}{end}"), tensor);
            }
            let weight = read(
                &base,
                &format!("{}{}", self.base.1, layer.weight()),
                self.device,
            )?;
            self.replace(parameters, &name, weight)?;
        }
        Ok(())
    }

    /// An addition's tensor, which the file holds once for each of the layers that are one here.
    fn joined(&self, adapter: &Checkpoint, stored: &[String], end: &str) -> Result<Tensor> {
        let count = if end == A { 1 } else { stored.len() };
        let parts = stored[..count]
            .iter()
            .map(|name| read(adapter, name, self.device));
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>, _>>()?, 0))
    }

    /// Replaces a merged weight by the base's, which must give the merged one again with the addition.
    fn replace(&self, parameters: &mut Parameters, layer: &str, base: Tensor) -> Result<()> {
        let weight = format!("{layer}.weight");
        let merged = parameters.get(&weight)?.shallow_clone();
        let kind = parameters.precision().kind();
        let remerged = lora::Addition::of(parameters, layer)
            .with_context(|| layer.to_owned())?
            .merged(&base.to_kind(kind));
        let largest = |x: &Tensor| x.abs().max().double_value(&[]);
        let difference = largest(&(remerged.to_kind(kind) - &merged)) / largest(&merged);
        ensure!(
            difference <= tolerance(parameters.precision()),
            "{}: {weight} is not the weight that the run started from: the base has changed",
            self.base.0.display()
        );
        parameters.insert(weight, base);
        Ok(())
    }
}

/// Whether the tensor has this shape; -1 stands for any size.
fn fits(tensor: &Tensor, shape: [i64; 2]) -> bool {
    let sizes = tensor.size();
    sizes.len() == 2 && sizes.iter().zip(shape).all(|(&a, b)| b == -1 || a == b)
}

/// Tolerance of a repeated merge relative to the largest weight: another order of sums in fp32, one rounding step in
/// bf16.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 1e-5,
        Precision::Bf16 => 1.0 / 128.0,
    }
}
