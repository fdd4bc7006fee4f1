//! The choice of trainable tensors.

use std::collections::HashSet;

use seeward_models::config::{Config as ModelConfig, VisionConfig};
use seeward_models::net::{self, Kind, Parameter, Part};

use crate::config::{Algorithm, Config};
use crate::libtorch::lora;
use crate::model::branch_source::BranchSource;
use crate::model::branches::Branches;

/// The names of all trainable tensors of a run, except low-rank additions, which are always trainable.
pub(crate) fn trained(config: &Config, sources: &Branches<BranchSource>) -> HashSet<String> {
    let of_branch = |source: &BranchSource| {
        let mut parameters = net::parameters(&source.config, source.branch);
        parameters.retain(|parameter| trains(config, &source.config, parameter));
        parameters
    };
    let parameters = sources.each().flat_map(of_branch);
    parameters.map(|parameter| parameter.name).collect()
}

/// Whether a tensor of a branch of this architecture trains: its part is neither frozen nor adapted, and the loss can
/// reach it. The reward does not pass the output projection; a tied one is the embedding table and is never a separate
/// tensor.
pub(crate) fn trains(config: &Config, model: &ModelConfig, parameter: &Parameter) -> bool {
    if parameter.kind == Kind::OutputProjection {
        let whole = !config.freeze_llm && !config.use_llm_lora;
        return config.algorithm == Algorithm::Sft
            && !model.text.tied_embeddings
            && (whole || config.unfreeze_lm_head);
    }
    if lora::adapts(config, parameter.part) {
        return false;
    }
    match parameter.part {
        Part::Vision => !config.freeze_backbone || is_unfrozen(config, model, parameter),
        Part::Projector => !config.freeze_mlp,
        Part::Language => !config.freeze_llm,
        Part::Head => true,
    }
}

/// Whether a tensor is in one of the layers of a frozen vision model that train nevertheless.
fn is_unfrozen(config: &Config, model: &ModelConfig, parameter: &Parameter) -> bool {
    let layers = model.vision.as_ref().map_or(0, VisionConfig::layers);
    let first = match config.unfreeze_vit_layers {
        0 => return false,
        from if from < 0 => layers as i64 + from,
        from => from,
    };
    parameter.layer.is_some_and(|layer| layer as i64 >= first)
}
