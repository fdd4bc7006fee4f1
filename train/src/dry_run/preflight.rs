//! What a run will be, before any weights are read.

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

/// What is known of a run from the start before any weights are read.
pub struct Preflight {
    /// How the branches see rows.
    pub preprocessors: Branches<Preprocessor>,
    /// What the main branch's tokens and tiles cost.
    pub(crate) costs: Costs,
    /// What both branches' weights take.
    memory: Memory,
    /// What passes keep.
    activations: Branches<Activations>,
}

/// Bytes that training needs, both branches together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Of the weights: fp32 for those that train, and for all others the run's precision.
    pub(crate) weights: usize,
    /// Of their gradients.
    pub(crate) gradients: usize,
    /// Of the optimizer's moments.
    pub(crate) optimizer: usize,
    /// Of what the largest batch's passes keep for their gradients, about.
    pub(crate) activations: usize,
}

impl Preflight {
    /// Of the run that `config` starts.
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

    /// What training needs where the branches' largest batches are of these extents.
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
        let additions = lora::layers(config, &source.config).into_iter();
        let sizes = additions.map(|layer| (layer.input + layer.output) as usize * config.lora_r);
        trained += sizes.sum::<usize>();
    }
    Memory {
        weights: 4 * trained + Precision::of(config).dtype().size() * frozen,
        gradients: 4 * trained,
        optimizer: 8 * trained,
        activations: 0,
    }
}
