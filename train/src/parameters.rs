//! The weights in LibTorch: loaded strictly from a checkpoint, frozen or trained by name, written back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use seeward_models::checkpoint::{Checkpoint, Dtype, Parameter, TensorData};
use seeward_models::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Every tensor of a run, by its name in the checkpoint that training writes.
#[derive(Debug, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
}

impl Parameters {
    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::invalid(format!("no parameter {name}")))
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Every tensor in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Tensors that training changes, in the order of names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.iter().filter(|(_, tensor)| tensor.requires_grad())
    }

    /// Adds a tensor under `name`.
    pub fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }

    /// Leaves a tensor out.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Copies one branch's tensors in: read under `from` + name, kept under `to` + name, widened to f32.
    pub fn load(
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

    /// Decides by name which tensors train.
    pub fn train_where(&mut self, trains: impl Fn(&str) -> bool) {
        for (name, tensor) in &mut self.tensors {
            *tensor = tensor.set_requires_grad(trains(name));
        }
    }

    /// All tensors, to be written to a checkpoint.
    pub fn data(&self) -> Vec<TensorData<'_>> {
        self.iter()
            .map(|(name, tensor)| data(name, tensor))
            .collect()
    }
}

/// A tensor to be written as f32.
pub fn data<'a>(name: &str, tensor: &'a Tensor) -> TensorData<'a> {
    let shape = tensor.size().iter().map(|&dim| dim as usize).collect();
    let bytes = move || Cow::Owned(little_endian(tensor));
    TensorData {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape,
        bytes: Box::new(bytes),
    }
}

/// Reads one tensor of a safetensors checkpoint as f32.
pub fn read(checkpoint: &Checkpoint, name: &str, device: Device) -> Result<Tensor> {
    let info = checkpoint.info(name)?;
    let kind = match info.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
    };
    let shape: Vec<i64> = info.shape.iter().map(|&dim| dim as i64).collect();
    let bytes = checkpoint.read(name)?;
    let stored =
        Tensor::f_from_data_size(&bytes, &shape, kind).map_err(|e| Error::invalid(e).at(name))?;
    Ok(stored.to_device(device).to_kind(Kind::Float))
}

fn little_endian(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous()
        .view(-1);
    let mut values = vec![0f32; flat.numel()];
    flat.copy_data(&mut values, flat.numel());
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
