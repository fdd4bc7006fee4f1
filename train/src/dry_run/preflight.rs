//! The sizes and costs of a run, computed before any weights are read.

use anyhow::Result;
use seeward_models::net;
use serde::Serialize;

use crate::config::Config;
use crate::data::flops::Costs;
use crate::data::preprocess::Preprocessor;
use crate::dry_run::activations::{self, Activations};
use crate::dry_run::batch_shape::BatchShape;
use crate::libtorch::lora;
use crate::libtorch::precision::Precision;
use crate::model::branch_source::{BranchSource, sources};
use crate::model::branches::Branches;
use crate::model::trainable::trains;

/// The setup of a run from its start, without weights.
pub struct Preflight {
    /// The preprocessors of the branches.
    pub preprocessors: Branches<Preprocessor>,
    /// Costs of the main branch's tokens and tiles.
    pub(crate) costs: Costs,
    /// Memory of both branches, without activations.
    memory: Memory,
    /// Activation sizes of the branches.
    activations: Branches<Activations>,
}

/// Memory in bytes that training needs in each process, both branches together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Weights: in fp32 if they train, else in the run's precision.
    pub(crate) weights: usize,
    /// Gradients.
    pub(crate) gradients: usize,
    /// The optimizer's moments.
    pub(crate) optimizer: usize,
    /// Activations that the largest batch stores for the backward pass, estimated.
    pub(crate) activations: usize,
}

impl Memory {
    /// The memory of each of several processes: weights and a pass's gradients are whole, and the sum of the gradients and
    /// the moments in parts.
    pub(crate) fn of_process(self, processes: usize) -> Self {
        if processes == 1 {
            return self;
        }
        Self {
            gradients: self.gradients + self.gradients.div_ceil(processes),
            optimizer: self.optimizer.div_ceil(processes),
            ..self
        }
    }
}

impl Preflight {
    /// The preflight of a run of `config`.
    ///
    /// # Errors
    /// As [`Start::load`](crate::model::setup::Start::load).
    pub fn of(config: &Config) -> Result<Self> {
        let sources = sources(config, None, &mut Vec::new())?;
        Ok(Self {
            preprocessors: sources.preprocessors(config)?,
            costs: Costs::of(&sources.main.config),
            memory: memory(config, &sources),
            activations: sources.map(|source| Ok(Activations::new(config, source)))?,
        })
    }

    /// The memory that training needs for largest batches of these shapes.
    pub(crate) fn memory(&self, largest: &Branches<BatchShape>) -> Memory {
        let branches = self.activations.each().zip(largest.each().copied());
        Memory {
            activations: activations::peak(branches),
            ..self.memory
        }
    }
}

fn memory(config: &Config, sources: &Branches<BranchSource>) -> Memory {
    let (mut trained, mut frozen) = (0, 0);
    for source in sources.each() {
        for parameter in net::parameters(&source.config, source.branch) {
            let elements: usize = parameter.shape.iter().product();
            match trains(config, &source.config, &parameter) {
                true => trained += elements,
                false => frozen += elements,
            }
        }
        let lora = lora::layers(config, &source.config).into_iter();
        let sizes = lora.map(|layer| (layer.input + layer.output) as usize * config.lora_r);
        trained += sizes.sum::<usize>();
    }
    Memory {
        weights: 4 * trained + Precision::of(config).dtype().size() * frozen,
        gradients: 4 * trained,
        optimizer: 8 * trained,
        activations: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_divide_the_moments_and_the_sum_of_gradients() {
        let alone = Memory {
            weights: 400,
            gradients: 400,
            optimizer: 800,
            activations: 50,
        };
        assert_eq!(alone.of_process(1), alone);
        let of_eight = Memory {
            gradients: 450,
            optimizer: 100,
            ..alone
        };
        assert_eq!(alone.of_process(8), of_eight);
    }
}
