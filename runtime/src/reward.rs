//! The reward graph: a forest and its image embeddings → rewards.

use ndarray::ArrayView1;
use seeward_models::bundle::{Bundle, REWARD_GRAPH};
use seeward_models::contract::reward_contract;
use seeward_models::reading::{self, Reading};

use crate::graph::{Graph, Inputs};
use crate::prepared::RewardRun;
use crate::vision::Embeddings;
use crate::{Options, Result, Usage};

/// The reward graph and the sizes of its inputs.
pub(crate) struct Reward {
    pub(crate) graph: Graph,
    /// Where rewards are read.
    reading: Reading,
}

impl Reward {
    /// Opens the bundle's reward graph.
    pub(crate) fn open(bundle: &Bundle, options: &Options, reading: Reading) -> Result<Self> {
        let manifest = bundle.manifest();
        let (width, head_dim) = (manifest.image_width, manifest.rope.head_dim);
        let contract = reward_contract(width, head_dim);
        Ok(Self {
            graph: Graph::open(REWARD_GRAPH, bundle, &contract, options)?,
            reading,
        })
    }

    /// Runs the graph: a reward for each place of the run.
    pub(crate) fn run(
        &self,
        run: &RewardRun,
        embeddings: &Embeddings,
        usage: &mut Usage,
    ) -> Result<Vec<f32>> {
        let (forest, rope) = (&run.forest, &run.rope);
        let images = embeddings.gather(&forest.image_rows);
        let (read, counts) = forest.positions_of(self.reading);
        let inputs = Inputs::default()
            .with(forest.input_ids.view())
            .with(forest.position_ids.view())
            .with(forest.document_ids.view())
            .with(forest.branch_ids.view())
            .with(images.view())
            .with(ArrayView1::from(&forest.image_positions))
            .with(rope.cos.view())
            .with(rope.sin.view())
            .with(ArrayView1::from(&read));
        let (rewards, seconds) = self.graph.run(inputs)?;
        usage.engine += seconds;
        usage.tokens += forest.used_tokens as u64;
        if rewards.len() != read.len() {
            let problem = format!("expected {} rewards, got {}", read.len(), rewards.len());
            return Err(self.graph.error(problem));
        }
        Ok(reading::means(&rewards, &counts))
    }
}
