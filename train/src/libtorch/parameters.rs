//! The weights in LibTorch: loaded strictly from a checkpoint, frozen or trained by name, written back. A forward pass
//! rounds them to the run's [`Precision`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData};
use seeward_models::net::Parameter;
use seeward_models::{Error, Result};
use tch::{Device, Kind, Tensor, no_grad};

use crate::libtorch::precision::Precision;

/// Every tensor of a run, by its name in the checkpoint that training writes. Trainable ones are fp32.
#[derive(Debug, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    precision: Precision,
    lora: Option<LoraMerge>,
}

/// How low-rank additions get into a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoraMerge {
    /// The scale of all additions.
    pub(crate) scale: f64,
    /// The form in which a checkpoint holds the tensor of that name.
    pub(crate) merge: for<'a> fn(&'a Parameters, &str) -> Merge<'a>,
}

/// The form in which a checkpoint holds a tensor.
pub(crate) enum Merge<'a> {
    /// Unchanged but for its rounding.
    Plain,
    /// Not at all: it is part of an addition.
    Addition,
    /// With its addition merged in; the shape is the same.
    Merged(Box<dyn Fn() -> Tensor + 'a>),
}

impl Parameters {
    /// No tensors yet, for a run in this precision.
    pub fn new(precision: Precision) -> Self {
        Self {
            tensors: BTreeMap::new(),
            precision,
            lora: None,
        }
    }

    /// The same, with low-rank additions among the tensors.
    pub(crate) fn with_lora(self, lora: LoraMerge) -> Self {
        Self {
            lora: Some(lora),
            ..self
        }
    }

    /// The scale of low-rank additions.
    pub(crate) fn lora_scale(&self) -> f64 {
        self.lora.map_or(1.0, |lora| lora.scale)
    }

    fn merge(&self, name: &str) -> Merge<'_> {
        self.lora
            .map_or(Merge::Plain, |lora| (lora.merge)(self, name))
    }

    /// The precision of the run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// No tensor has that name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.find(name)
            .ok_or_else(|| Error::invalid(format!("no parameter {name}")))
    }

    /// The tensor of that name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Every tensor in the order of names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The trainable tensors, in the order of names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.iter().filter(|(_, tensor)| tensor.requires_grad())
    }

    /// Whether any tensor whose name begins with `scope` trains.
    pub(crate) fn train_in(&self, scope: &str) -> bool {
        self.trainable().any(|(name, _)| name.starts_with(scope))
    }

    /// Adds a tensor under `name`.
    pub fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }

    /// Removes a tensor, if there is one of that name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Copies one branch's tensors in: read under `from` + name, stored under `to` + name, widened to f32.
    pub(crate) fn load(
        &mut self,
        checkpoint: &Checkpoint,
        parameters: &[Parameter],
        (from, to): (&str, &str),
        device: Device,
    ) -> Result<()> {
        for parameter in parameters {
            let name = parameter.name.strip_prefix(from).unwrap_or(&parameter.name);
            if checkpoint.contains(&parameter.name) {
                let tensor = read(checkpoint, &parameter.name, device)?;
                self.insert(format!("{to}{name}"), tensor);
            }
        }
        Ok(())
    }

    /// Makes the tensors whose names `trains` accepts trainable; rounds all others permanently.
    pub fn train_where(&mut self, trains: impl Fn(&str) -> bool) {
        let kind = self.precision.kind();
        for (name, tensor) in &mut self.tensors {
            *tensor = if trains(name) {
                tensor.set_requires_grad(true)
            } else {
                tensor.to_kind(kind)
            };
        }
    }

    /// All tensors in the form of a checkpoint: low-rank additions merged into their layers, rounded.
    pub fn data(&self) -> Vec<TensorData<'_>> {
        let dtype = self.precision.dtype();
        self.iter()
            .filter_map(|(name, tensor)| match self.merge(name) {
                Merge::Plain => Some(data(name, tensor, dtype)),
                Merge::Addition => None,
                Merge::Merged(merged) => Some(written(name, tensor, dtype, merged)),
            })
            .collect()
    }

    /// The fp32 masters of trainable tensors, which a run needs to resume from rounded weights. None in fp32.
    pub fn masters(&self) -> Vec<TensorData<'_>> {
        self.rounded()
            .map(|(name, tensor)| data(&master(name), tensor, Dtype::F32))
            .collect()
    }

    /// Trainable tensors that a checkpoint holds rounded. Low-rank additions are stored separately, in fp32.
    fn rounded(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let rounds = self.precision != Precision::Fp32;
        self.trainable()
            .filter(move |(name, _)| rounds && !matches!(self.merge(name), Merge::Addition))
    }

    /// Replaces rounded tensors by their saved masters.
    ///
    /// # Errors
    /// A master is missing or does not round to its tensor.
    pub fn restore_masters(&self, state: &Checkpoint) -> Result<()> {
        let kind = self.precision.kind();
        for (name, tensor) in self.rounded() {
            let saved = read(state, &master(name), tensor.device())?;
            if saved.size() != tensor.size() || saved.to_kind(kind) != tensor.to_kind(kind) {
                let problem = "the fp32 master weight does not match the checkpoint's bf16 weight";
                return Err(Error::invalid(problem).at(name));
            }
            no_grad(|| tensor.shallow_clone().copy_(&saved));
        }
        Ok(())
    }
}

fn master(name: &str) -> String {
    format!("master.{name}")
}

/// A tensor to be written as `dtype`.
pub(crate) fn data<'a>(name: &str, tensor: &'a Tensor, dtype: Dtype) -> TensorData<'a> {
    written(name, tensor, dtype, move || tensor.shallow_clone())
}

/// A tensor to be written as `dtype`, with these values in its shape.
fn written<'a>(
    name: &str,
    tensor: &Tensor,
    dtype: Dtype,
    values: impl Fn() -> Tensor + 'a,
) -> TensorData<'a> {
    let shape = tensor.size().iter().map(|&dim| dim as usize).collect();
    let bytes = move || Cow::Owned(little_endian(&values(), kind(dtype)));
    TensorData {
        name: name.to_owned(),
        dtype,
        shape,
        bytes: Box::new(bytes),
    }
}

/// Reads one tensor of a safetensors checkpoint as f32.
///
/// # Errors
/// No such tensor, or a file that cannot be read.
pub fn read(checkpoint: &Checkpoint, name: &str, device: Device) -> Result<Tensor> {
    let info = checkpoint.info(name)?;
    let shape: Vec<i64> = info.shape.iter().map(|&dim| dim as i64).collect();
    let bytes = checkpoint.read(name)?;
    let stored = Tensor::f_from_data_size(&bytes, &shape, kind(info.dtype))
        .map_err(|e| Error::invalid(e).at(name))?;
    Ok(stored.to_device(device).to_kind(Kind::Float))
}

fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
    }
}

/// The elements of a tensor as `kind`, row-major.
pub(crate) fn little_endian(tensor: &Tensor, kind: Kind) -> Vec<u8> {
    let flat = tensor
        .detach()
        .to_kind(kind)
        .to_device(Device::Cpu)
        .contiguous()
        .view(-1)
        .view_dtype(Kind::Uint8);
    let mut bytes = vec![0; flat.numel()];
    flat.copy_data(&mut bytes, flat.numel());
    bytes
}
