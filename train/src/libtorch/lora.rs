//! Low-rank additions (LoRA; Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): a linear layer of an
//! adapted part computes x·Wᵀ + b + s · dropout(x)·Aᵀ·Bᵀ with s = `lora_alpha` / `lora_r`, where only
//! A `[rank, in]` and B `[out, rank]` train.
//!
//! As in the published code, which wraps a part with PEFT: every linear layer of every block has an addition, A starts
//! uniform in ±1/√in and B at zero, and all other weights of the part are frozen, whatever its freezing key says.

use seeward_models::Result;
use seeward_models::config::Config as ModelConfig;
use seeward_models::net::{self, Branch, Parameter, Part};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::config::Config;
use crate::libtorch::parameters::{LoraMerge, Merge, Parameters};
use crate::random::Stream;

/// The suffix of A: the name of an addition's tensor is its layer's name with the suffix.
pub(crate) const A: &str = ".lora_A.weight";
/// The suffix of B.
pub const B: &str = ".lora_B.weight";
const WEIGHT: &str = ".weight";

/// Whether a tensor belongs to an addition.
pub fn is_addition(name: &str) -> bool {
    name.ends_with(A) || name.ends_with(B)
}

/// Whether the layers of this part have additions.
pub(crate) fn adapts(config: &Config, part: Part) -> bool {
    match part {
        Part::Vision => config.use_backbone_lora,
        Part::Language => config.use_llm_lora,
        Part::Projector | Part::Head => false,
    }
}

/// The scale s of the additions.
pub(crate) fn scale(config: &Config) -> f64 {
    config.lora_alpha / config.lora_r as f64
}

/// The parameters, whose additions have this scale and are merged into the weights of a checkpoint.
pub fn adapted(parameters: Parameters, scale: f64) -> Parameters {
    parameters.with_lora(LoraMerge { scale, merge })
}

fn merge<'a>(parameters: &'a Parameters, name: &str) -> Merge<'a> {
    if is_addition(name) {
        return Merge::Addition;
    }
    match (Addition::of_weight(parameters, name), parameters.find(name)) {
        (Some(addition), Some(weight)) => Merge::Merged(Box::new(move || addition.merged(weight))),
        _ => Merge::Plain,
    }
}

/// A layer that has an addition.
pub struct Layer {
    /// Its name inside its branch.
    pub name: String,
    /// Width of its input.
    pub(crate) input: i64,
    /// Width of its output.
    pub(crate) output: i64,
    /// Its weight in the network.
    pub(crate) parameter: Parameter,
}

impl Layer {
    /// The name of its weight inside its branch.
    pub(crate) fn weight(&self) -> String {
        format!("{}{WEIGHT}", self.name)
    }
}

/// The layers of a model of this architecture that have additions.
pub fn layers(config: &Config, model: &ModelConfig) -> Vec<Layer> {
    let linears = net::block_linears(model, Branch::Main);
    let linears = linears.into_iter();
    let adapted = linears.filter(|weight| adapts(config, weight.part));
    adapted
        .map(|weight| Layer {
            name: weight.name.trim_end_matches(WEIGHT).to_owned(),
            input: weight.shape[1] as i64,
            output: weight.shape[0] as i64,
            parameter: weight,
        })
        .collect()
}

/// Adds the initial additions of a branch's layers.
///
/// # Errors
/// LibTorch's.
pub(crate) fn draw(
    parameters: &mut Parameters,
    config: &Config,
    (model, branch): (&ModelConfig, Branch),
    device: Device,
) -> std::result::Result<(), TchError> {
    for layer in layers(config, model) {
        let name = format!("{}{}", branch.prefix(), layer.name);
        let (a, rank) = (format!("{name}{A}"), config.lora_r as i64);
        let bound = 1.0 / (layer.input as f64).sqrt();
        let stream = Stream::new(config.seed as u64, &a, 0);
        let empty = Tensor::f_zeros([rank, layer.input], (Kind::Float, Device::Cpu))?;
        let drawn = stream.torch(|| empty.shallow_clone().f_uniform_(-bound, bound))?;
        parameters.insert(a, drawn.to_device(device));
        let zeros = Tensor::f_zeros([layer.output, rank], (Kind::Float, device))?;
        parameters.insert(format!("{name}{B}"), zeros);
    }
    Ok(())
}

/// The addition to one layer.
pub(crate) struct Addition<'a> {
    a: &'a Tensor,
    b: &'a Tensor,
    scale: f64,
}

impl<'a> Addition<'a> {
    /// The addition of the layer of this name, if it has one.
    pub(crate) fn of(parameters: &'a Parameters, layer: &str) -> Option<Self> {
        let tensor = |end: &str| parameters.find(&format!("{layer}{end}"));
        Some(Self {
            a: tensor(A)?,
            b: tensor(B)?,
            scale: parameters.lora_scale(),
        })
    }

    /// The addition of the layer whose weight has this name, if it has one.
    pub(crate) fn of_weight(parameters: &'a Parameters, weight: &str) -> Option<Self> {
        Self::of(parameters, weight.strip_suffix(WEIGHT)?)
    }

    /// The layer's weight with the addition merged in, fp32 `[out, in]`, without gradient.
    pub(crate) fn merged(&self, weight: &Tensor) -> Tensor {
        no_grad(|| weight.to_kind(Kind::Float) + self.b.matmul(self.a) * self.scale)
    }

    /// The addition's output for the inputs `x` after dropout; `round` gives A and B their precision.
    ///
    /// # Errors
    /// Shapes that do not match.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        round: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (a, b) = (round(self.a)?, round(self.b)?);
        let added = x
            .f_to_kind(a.kind())
            .and_then(|x| x.f_linear(&a, None::<Tensor>))
            .and_then(|x| x.f_linear(&b, None::<Tensor>))
            .and_then(|x| x.f_mul_scalar(self.scale));
        added.map_err(seeward_models::Error::invalid)
    }
}
