//! A branch of the run: its configuration, how it sees rows, and its forward pass.

use std::rc::Rc;

use seeward_models::config::Config;
use seeward_models::forest::Forest;
use seeward_models::image::Tiles;
use seeward_models::net::{self, Branch, Ops, RewardInputs, TEXT_ONLY_SCOPE, Tokens};
use seeward_models::{Error, Result};
use tch::{Device, Kind, Tensor};

use crate::batch::Inputs;
use crate::parameters::Parameters;
use crate::pass::Pass;
use crate::precision::{Precision, without_tf32};
use crate::torch::{Torch, Value};

/// One reward model under training.
pub struct Model {
    /// Which of the two it is: where its weights are.
    pub branch: Branch,
    /// Its sizes.
    pub config: Config,
    /// Where it computes.
    pub device: Device,
    /// The run's weights, both branches'.
    pub parameters: Rc<Parameters>,
}

impl Model {
    /// One reward per conversation, [k], in the order of the forest's branches, computed as the run computes.
    pub fn rewards(&self, inputs: &Inputs) -> Result<Tensor> {
        self.rewards_within(None, inputs)
    }

    /// The same of a pass that is trained on.
    pub fn rewards_within(&self, pass: Option<&Rc<Pass>>, inputs: &Inputs) -> Result<Tensor> {
        self.rewards_by(self.interpreter(pass), inputs)
    }

    /// The same computed in fp32 on the weights that a checkpoint holds.
    pub fn exact_rewards(&self, inputs: &Inputs) -> Result<Tensor> {
        let exact = Torch::new(self.parameters.clone(), Precision::Fp32).merged();
        without_tf32(|| self.rewards_by(exact, inputs))
    }

    fn rewards_by(&self, ops: Torch, inputs: &Inputs) -> Result<Tensor> {
        self.interpret(ops, |ops| {
            let tokens = self.tokens(ops, inputs)?;
            let reward_positions = self.integers(&inputs.forest.reward_positions());
            net::rewards(
                ops,
                &self.config,
                &RewardInputs {
                    tokens,
                    reward_positions,
                },
            )
        })
    }

    /// Next-token logits at the inputs' targets, [k, vocabulary].
    pub fn logits(&self, pass: Option<&Rc<Pass>>, inputs: &Inputs) -> Result<Tensor> {
        self.interpret(self.interpreter(pass), |ops| {
            let tokens = self.tokens(ops, inputs)?;
            net::logits(
                ops,
                &self.config,
                &tokens,
                &self.integers(&inputs.targets.at),
            )
        })
    }

    /// One that computes as the run does.
    fn interpreter(&self, pass: Option<&Rc<Pass>>) -> Torch {
        Torch::new(self.parameters.clone(), self.parameters.precision()).within(pass)
    }

    fn interpret(
        &self,
        mut ops: Torch,
        f: impl FnOnce(&mut Torch) -> Result<Value>,
    ) -> Result<Tensor> {
        let value = match self.branch {
            Branch::Main => f(&mut ops),
            Branch::TextOnly => ops.scope(TEXT_ONLY_SCOPE, f),
        };
        value.map(|value| value.0)
    }

    fn tokens(&self, ops: &mut Torch, inputs: &Inputs) -> Result<Tokens<Value>> {
        let forest = &inputs.forest;
        let table = self.config.text.rope.tables(&forest.rope);
        let rope = |values: &[f32]| {
            self.place(Tensor::from_slice(values).view([table.entries as i64, -1]))
        };
        Ok(Tokens {
            input_ids: self.grid(forest, Tensor::from_slice(&forest.input_ids)),
            position_ids: self.grid(forest, Tensor::from_slice(&forest.position_ids)),
            document_ids: self.grid(forest, Tensor::from_slice(&forest.document_ids)),
            branch_ids: self.grid(forest, Tensor::from_slice(&forest.branch_ids)),
            image_embeds: self.image_embeddings(ops, inputs)?,
            image_positions: self.integers(&forest.image_positions),
            rope_cos: rope(&table.cos),
            rope_sin: rope(&table.sin),
        })
    }

    /// Each image of the batch is encoded once; its rows go wherever the forest has them.
    fn image_embeddings(&self, ops: &mut Torch, inputs: &Inputs) -> Result<Value> {
        if inputs.images.is_empty() {
            let width = self.config.text.hidden as i64;
            return Ok(Value(Tensor::zeros([0, width], (Kind::Float, self.device))));
        }
        let pixels = self.pixels(&inputs.images)?;
        let embeddings = net::image_embeddings(ops, &self.config, &pixels)?;
        ops.gather_rows(&embeddings, &self.integers(&inputs.forest.image_rows))
    }

    /// All tiles, u8 [tiles, side, side, 3].
    fn pixels(&self, images: &[Tiles]) -> Result<Value> {
        let tiles = images.iter().map(|image| {
            let (count, side) = (image.count as i64, i64::from(image.size));
            Tensor::from_slice(&image.pixels).f_view([count, side, side, 3])
        });
        let tiles: Vec<_> = tiles
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::invalid)?;
        let pixels = Tensor::f_cat(&tiles, 0).map_err(Error::invalid)?;
        Ok(self.place(pixels))
    }

    fn grid(&self, forest: &Forest, flat: Tensor) -> Value {
        self.place(flat.view([forest.rows as i64, forest.tokens as i64]))
    }

    fn integers(&self, values: &[i64]) -> Value {
        self.place(Tensor::from_slice(values))
    }

    fn place(&self, tensor: Tensor) -> Value {
        Value(tensor.to_device(self.device))
    }
}
