//! Which tensors train.

use seeward_models::net::{self, Branch};

use crate::config::{Algorithm, Config};
use crate::libtorch::lora;
use crate::model::branch_source::BranchSource;
use crate::model::branches::Branches;

/// Whether a tensor trains: its part is neither frozen nor adapted, and the loss can reach it. The output projection does not see the
/// reward; a tied one is the embedding table and is never a tensor of its own.
pub(crate) fn trains(config: &Config, sources: &Branches<BranchSource>, name: &str) -> bool {
    let text_prefix = Branch::TextOnly.prefix();
    let (local, source) = match (name.strip_prefix(&text_prefix), &sources.text) {
        (Some(local), Some(text)) => (local, text),
        _ => (name, &sources.main),
    };
    if local == net::output_projection(&source.config.text) {
        let whole = !config.freeze_llm && !config.use_llm_lora;
        return config.algorithm == Algorithm::Sft
            && !source.config.text.tied_embeddings
            && (whole || config.unfreeze_lm_head);
    }
    if lora::adapts(config, local) {
        return lora::is_addition(local);
    }
    match local.split('.').next() {
        Some("vision_model") => {
            let layers = source
                .config
                .vision
                .as_ref()
                .map_or(0, |vision| vision.layers);
            !config.freeze_backbone || is_unfrozen(config, layers, local)
        }
        Some("mlp1") => !config.freeze_mlp,
        Some("language_model") => !config.freeze_llm,
        _ => true,
    }
}

/// Whether a vision model's tensor is in one of the layers that train though the model is frozen.
fn is_unfrozen(config: &Config, layers: usize, name: &str) -> bool {
    let first = match config.unfreeze_vit_layers {
        0 => return false,
        from if from < 0 => layers as i64 + from,
        from => from,
    };
    let behind = name.strip_prefix("vision_model.encoder.layers.");
    let index = behind.and_then(|name| name.split('.').next()?.parse::<i64>().ok());
    index.is_some_and(|index| index >= first)
}
