//! What a run will be, before any weights are read.

use anyhow::Result;
use seeward_models::net;
use serde::Serialize;

use crate::activations::{self, Activations};
use crate::batch::View;
use crate::config::Config;
use crate::extent::Extent;
use crate::freezing::trains;
use crate::load::Costs;
use crate::lora;
use crate::precision::Precision;
use crate::setup::Branches;
use crate::source::{Source, sources};

/// What is known of a run from the start before any weights are read.
pub struct Outline {
    /// How the branches see rows.
    pub views: Branches<View>,
    /// What the main branch's tokens and tiles cost.
    pub costs: Costs,
    /// What both branches' weights take.
    memory: Memory,
    /// What passes keep.
    activations: Branches<Activations>,
}

/// Bytes that training needs, both branches together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of the weights: fp32 for those that train, and for all others the run's precision.
    pub weights: usize,
    /// Of their gradients.
    pub gradients: usize,
    /// Of the optimizer's moments.
    pub optimizer: usize,
    /// Of what the largest batch's passes keep for their gradients, about.
    pub activations: usize,
}

impl Outline {
    /// Of the run that `config` starts.
    ///
    /// # Errors
    /// As [`Start::load`](crate::setup::Start::load).
    pub fn of(config: &Config) -> Result<Self> {
        let sources = sources(config, None, &mut Vec::new())?;
        Ok(Self {
            views: sources.views(config)?,
            costs: Costs::of(&sources.main.config),
            memory: memory(config, &sources),
            activations: sources.map(|source| Ok(Activations::new(config, &sources, source)))?,
        })
    }

    /// What training needs where the branches' largest batches are of these extents.
    pub fn memory(&self, largest: &Branches<Extent>) -> Memory {
        let branches = self.activations.each().zip(largest.each().copied());
        Memory {
            activations: activations::peak(branches),
            ..self.memory
        }
    }
}

fn memory(config: &Config, sources: &Branches<Source>) -> Memory {
    let (mut trained, mut frozen) = (0, 0);
    for source in sources.each() {
        for parameter in net::parameters(&source.config, source.branch) {
            let elements: usize = parameter.shape.iter().product();
            match trains(config, sources, &parameter.name) {
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
