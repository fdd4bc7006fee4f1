//! The context of a training forward pass: its randomness, a function of (seed, step, batch, place), and the tape for
//! activation checkpointing.

use seeward_models::Result;
use tch::Tensor;

use crate::config::Config;
use crate::libtorch::tape::Tape;
use crate::random::Stream;

/// The context of one forward and backward pass of an optimizer step.
pub struct ForwardContext {
    /// Dropout rate of the inputs of low-rank additions.
    pub(crate) lora_dropout: f64,
    /// Drop-path rate of the deepest block of a trained vision model.
    pub(crate) drop_path_rate: f64,
    /// The tape of activation checkpointing; `None` without it.
    pub(crate) tape: Option<Tape>,
    /// Seeds of the step and of the batch within it.
    seeds: (u64, u64),
}

impl ForwardContext {
    /// The context of batch `batch` of optimizer step `step`, warm-up steps included.
    pub fn new(config: &Config, step: usize, batch: usize) -> Self {
        let step = Stream::new(config.seed as u64, "step", step as u64).draw();
        Self {
            lora_dropout: config.lora_dropout,
            drop_path_rate: config.drop_path_rate,
            tape: config.grad_checkpoint.then(Tape::default),
            seeds: (step, Stream::new(step, "batch", batch as u64).draw()),
        }
    }

    /// The random stream of a place in the network: the same on every call.
    pub(crate) fn stream(&self, place: &str) -> Stream {
        Stream::new(self.seeds.1, place, 0)
    }

    /// The drop-path factor of a residual path for one image: 0 if dropped, else 1 / (1 − rate), so that the mean stays.
    /// It depends on the step, the path and the image only, so that an image has one mask per step, in whatever batch.
    pub fn path_factor(&self, place: &str, content: &str, depth: f64) -> f64 {
        let kept = 1.0 - self.drop_path_rate * depth;
        let drawn = Stream::new(self.seeds.0, &format!("{place} {content}"), 0).fraction();
        if drawn < kept { 1.0 / kept } else { 0.0 }
    }

    /// Adds the gradients of `loss` to the weights' gradients.
    ///
    /// # Errors
    /// A block that fails when it is recomputed.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<()> {
        loss.backward();
        self.tape.as_ref().map_or(Ok(()), Tape::rewind)
    }
}
