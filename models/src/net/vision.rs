//! The vision encoder of any family, and the projector after it.

use super::image_inputs::ImageInputs;
use super::ops::Ops;
use super::part::Inventory;
use super::{intern_vit, projector, qwen_vit};
use crate::config::{Config, VisionConfig};
use crate::{Error, Result};

/// Images → hidden states of the vision model.
pub(super) fn forward<O: Ops + 'static>(
    ops: &mut O,
    config: &Config,
    images: &ImageInputs<O::T>,
) -> Result<O::T> {
    let n = config.normalization;
    match (&config.vision, images) {
        (Some(VisionConfig::InternVit(vision)), ImageInputs::Tiles(pixels)) => {
            intern_vit::forward(ops, vision, pixels, n)
        }
        (Some(VisionConfig::Qwen(vision)), ImageInputs::Grid(image)) => {
            qwen_vit::forward(ops, vision, image, n)
        }
        (None, _) => Err(no_vision()),
        (Some(_), _) => Err(Error::invalid(
            "expected images in the form of the vision encoder",
        )),
    }
}

/// Hidden states of the vision model → image embeddings.
pub(super) fn project<O: Ops>(ops: &mut O, config: &Config, features: &O::T) -> Result<O::T> {
    match &config.vision {
        Some(VisionConfig::InternVit(vision)) => projector::forward(ops, config, vision, features),
        Some(VisionConfig::Qwen(vision)) => qwen_vit::merge(ops, vision, features),
        None => Err(no_vision()),
    }
}

fn no_vision() -> Error {
    Error::invalid("the model has no vision encoder")
}

/// Lists the tensors of encoder and projector.
pub(super) fn parameters(config: &Config, list: &mut Inventory) {
    match &config.vision {
        Some(VisionConfig::InternVit(vision)) => {
            intern_vit::parameters(vision, list);
            projector::parameters(config, vision, list);
        }
        Some(VisionConfig::Qwen(vision)) => {
            qwen_vit::parameters(vision, list);
            qwen_vit::merger_parameters(vision, list);
        }
        None => {}
    }
}
