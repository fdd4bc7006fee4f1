//! The reward graph: a forest and its image embeddings → rewards.

use ndarray::{ArrayView1, ArrayView2};
use seeward_models::bundle::{Bundle, REWARD_GRAPH};
use seeward_models::contract::reward_contract;

use crate::graph::{Graph, Inputs};
use crate::prepared::RewardRun;
use crate::vision::Embeddings;
use crate::{Options, Result, Usage};

/// The reward graph and the sizes of its inputs.
pub(crate) struct Reward {
    pub(crate) graph: Graph,
    head_dim: usize,
}

impl Reward {
    /// Opens the bundle's reward graph.
    pub(crate) fn open(bundle: &Bundle, options: &Options) -> Result<Self> {
        let manifest = bundle.manifest();
        let (width, head_dim) = (manifest.hidden_size, manifest.rope.head_dim);
        let contract = reward_contract(width, head_dim);
        Ok(Self {
            graph: Graph::open(REWARD_GRAPH, bundle, &contract, options)?,
            head_dim,
        })
    }

    /// Runs the graph: a reward for each source of the batch.
    pub(crate) fn run(
        &self,
        run: &RewardRun,
        embeddings: &Embeddings,
        usage: &mut Usage,
    ) -> Result<Vec<f32>> {
        let (forest, rope) = (&run.batch.forest, &run.rope);
        let layout = (forest.rows, forest.tokens);
        let images = embeddings.gather(&forest.image_rows);
        let table = (rope.entries, self.head_dim / 2);
        let last = forest.reward_positions();
        let inputs = Inputs::default()
            .with(self.matrix(layout, &forest.input_ids)?)
            .with(self.matrix(layout, &forest.position_ids)?)
            .with(self.matrix(layout, &forest.document_ids)?)
            .with(self.matrix(layout, &forest.branch_ids)?)
            .with(images.view())
            .with(ArrayView1::from(&forest.image_positions))
            .with(self.matrix(table, &rope.cos)?)
            .with(self.matrix(table, &rope.sin)?)
            .with(ArrayView1::from(&last));
        let (rewards, seconds) = self.graph.run(inputs)?;
        usage.engine += seconds;
        usage.tokens += forest.used_tokens as u64;
        if rewards.len() != last.len() {
            let problem = format!("expected {} rewards, got {}", last.len(), rewards.len());
            return Err(self.graph.error(problem));
        }
        Ok(rewards)
    }

    fn matrix<'a, T>(&self, shape: (usize, usize), values: &'a [T]) -> Result<ArrayView2<'a, T>> {
        ArrayView2::from_shape(shape, values).map_err(|e| self.graph.error(e.to_string()))
    }
}
