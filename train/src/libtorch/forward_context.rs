//! What a forward pass that is trained on has beyond one that only answers: randomness, which is a function of (seed,
//! step, batch, place), and a tape for activation checkpointing.

use seeward_models::Result;
use tch::Tensor;

use crate::config::Config;
use crate::libtorch::tape::Tape;
use crate::random::Stream;

/// One forward and backward pass of an optimizer step.
pub struct ForwardContext {
    /// The share of a low-rank addition's inputs that is dropped.
    pub(crate) lora_dropout: f64,
    /// How often the deepest block of a trained vision model is skipped.
    pub(crate) drop_path_rate: f64,
    /// Of activations that are computed again; none where they are kept.
    pub(crate) tape: Option<Tape>,
    /// Of the step, and of the batch in it.
    seeds: (u64, u64),
}

impl ForwardContext {
    /// Batch `batch` of optimizer step `step`; those of a warm-up are counted too.
    pub fn new(config: &Config, step: usize, batch: usize) -> Self {
        let step = Stream::new(config.seed as u64, "step", step as u64).draw();
        Self {
            lora_dropout: config.lora_dropout,
            drop_path_rate: config.drop_path_rate,
            tape: config.grad_checkpoint.then(Tape::default),
            seeds: (step, Stream::new(step, "batch", batch as u64).draw()),
        }
    }

    /// The randomness of a place in the network: the same whenever it is asked for.
    pub(crate) fn stream(&self, place: &str) -> Stream {
        Stream::new(self.seeds.1, place, 0)
    }

    /// What a residual path of the vision model is multiplied by for one image: 0 where it is left out, and where it is
    /// not, what keeps its mean. The step decides alone: an image has one mask, however often and with whatever
    /// neighbours it is seen.
    pub fn path_factor(&self, place: &str, content: &str, depth: f64) -> f64 {
        let kept = 1.0 - self.drop_path_rate * depth;
        let drawn = Stream::new(self.seeds.0, &format!("{place} {content}"), 0).fraction();
        if drawn < kept { 1.0 / kept } else { 0.0 }
    }

    /// Adds the gradients of `loss` to those of the weights.
    ///
    /// # Errors
    /// A block that fails when it runs again.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<()> {
        loss.backward();
        self.tape.as_ref().map_or(Ok(()), Tape::rewind)
    }
}
