//! The network, written once over [`Ops`]: training interprets it with LibTorch tensors that differentiate, export
//! with ONNX nodes. Each file holds a part's forward pass and, beside it, the parameters that it needs.

mod ops;
mod positions;
mod projector;
mod reward;
pub mod rope;
mod text;
mod vision;

pub use ops::{Activation, Bias, Ops, TokenOrder};
pub use positions::fit_positions;
pub use reward::{
    RewardInputs, Tokens, image_embeddings, image_features, logits, project, rewards,
};
pub use text::{output_projection, token_embeddings};

use crate::Result;
use crate::checkpoint::{Checkpoint, Parameter};
use crate::config::Config;

/// Scope of the text-only branch inside a checkpoint that holds both.
pub const TEXT_ONLY_SCOPE: &str = "bias_reward_model";
/// The score head: one row over the hidden state, no bias.
pub const SCORE_HEAD: &str = "score.weight";

/// One of the two reward models that a shortcut-aware checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Branch {
    /// The reward model itself.
    Main,
    /// The shortcut proxy, trained on the white image.
    TextOnly,
}

impl Branch {
    /// What stands before this branch's tensor names: nothing, or the scope with its dot.
    pub fn prefix(self) -> String {
        match self {
            Self::Main => String::new(),
            Self::TextOnly => format!("{TEXT_ONLY_SCOPE}."),
        }
    }
}

/// The tensors of one branch, by their names in a checkpoint.
pub fn parameters(config: &Config, branch: Branch) -> Vec<Parameter> {
    let mut list = Inventory {
        prefix: branch.prefix(),
        parameters: Vec::new(),
    };
    if let Some(vision) = &config.vision {
        vision::parameters(vision, &mut list);
        projector::parameters(config, vision, &mut list);
    }
    text::parameters(&config.text, &mut list);
    list.optional(SCORE_HEAD, &[1, config.text.hidden]);
    list.parameters
}

/// The weights [out, in] of all linear layers inside the blocks of one branch's vision model and language model.
pub fn block_linears(config: &Config, branch: Branch) -> Vec<Parameter> {
    let is_linear = |p: &Parameter| p.shape.len() == 2 && p.name.contains(".layers.");
    let mut all = parameters(config, branch);
    all.retain(is_linear);
    all
}

/// The branches that a checkpoint holds, after checking its tensors strictly: nothing missing, surplus or mis-shaped.
pub fn branches(checkpoint: &Checkpoint, config: &Config) -> Result<Vec<Branch>> {
    let prefix = Branch::TextOnly.prefix();
    let mut found = vec![Branch::Main];
    let mut expected = parameters(config, Branch::Main);
    if checkpoint
        .tensors()
        .any(|(name, _)| name.starts_with(&prefix))
    {
        found.push(Branch::TextOnly);
        expected.extend(parameters(&config.text_only_branch()?, Branch::TextOnly));
    }
    checkpoint.require(&expected)?;
    Ok(found)
}

/// Collects parameters under a prefix.
struct Inventory {
    prefix: String,
    parameters: Vec<Parameter>,
}

impl Inventory {
    fn add(&mut self, name: impl AsRef<str>, shape: &[usize]) {
        self.push(name.as_ref(), shape, false);
    }

    fn optional(&mut self, name: &str, shape: &[usize]) {
        self.push(name, shape, true);
    }

    /// `name.weight` and, with a bias, `name.bias`.
    fn linear(&mut self, name: impl AsRef<str>, input: usize, output: usize, bias: Bias) {
        let name = name.as_ref();
        self.add(format!("{name}.weight"), &[output, input]);
        if bias == Bias::Yes {
            self.add(format!("{name}.bias"), &[output]);
        }
    }

    fn layer_norm(&mut self, name: impl AsRef<str>, width: usize) {
        let name = name.as_ref();
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn push(&mut self, name: &str, shape: &[usize], optional: bool) {
        let name = format!("{}{name}", self.prefix);
        self.parameters.push(Parameter {
            name,
            shape: shape.to_vec(),
            optional,
        });
    }
}
