//! The network, written once over [`Ops`]: training interprets it with LibTorch tensors that differentiate, export
//! with ONNX nodes. Each file holds a part's forward pass and the list of its parameters.

mod branch;
mod head;
mod image_inputs;
mod intern_vit;
mod language;
mod names;
mod ops;
mod part;
mod positions;
mod projector;
mod qwen_vit;
mod reward;
mod stored;
mod vision;

pub use branch::{Branch, TEXT_ONLY_SCOPE};
pub use image_inputs::{GridInputs, ImageInputs};
pub use language::{output_projection, token_embeddings};
pub use names::{names_after, names_of};
pub use ops::{Activation, Bias, Ops};
pub use part::{AttentionLinear, Kind, MlpLinear, Parameter, Part, is_of_head};
pub use positions::fit_positions;
pub use reward::{
    RewardInputs, Tokens, image_embeddings, image_features, logits, project, rewards,
};
pub use stored::open;

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use part::Inventory;

/// The score head: one row over the hidden state, no bias.
pub const SCORE_HEAD: &str = "score.weight";

/// The tensors of one branch, by their names in a checkpoint.
pub fn parameters(config: &Config, branch: Branch) -> Vec<Parameter> {
    let mut list = Inventory::new(branch);
    vision::parameters(config, &mut list);
    language::parameters(&config.text, &mut list);
    head::parameters(config, &mut list);
    list.into_parameters()
}

/// The weights [out, in] of all linear layers inside the blocks of one branch's vision model and language model.
pub fn block_linears(config: &Config, branch: Branch) -> Vec<Parameter> {
    let mut all = parameters(config, branch);
    all.retain(Parameter::is_block_linear);
    all
}

/// The branches that a checkpoint holds.
///
/// # Errors
/// Tensors that are missing, surplus or of another shape; a score head that is not known completely.
pub fn branches(checkpoint: &Checkpoint, config: &Config) -> Result<Vec<Branch>> {
    config.head.check()?;
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
    checkpoint.require(expected.iter().map(Parameter::required))?;
    Ok(found)
}
