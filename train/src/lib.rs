//! Training of Seeward reward models with LibTorch, the only crate that links it. The modules, in the order of the flow:
//!
//! 1. [`config`]: the YAML file of a run, checked.
//! 2. [`data`]: rows of preferences → batches, prepared on the host while the model computes.
//! 3. [`libtorch`]: the network as differentiable operations, its weights, its precision, its memory.
//! 4. [`model`]: the branches, read from checkpoints and set up for training.
//! 5. [`step`]: one optimizer step: loss, gradients, update, measures.
//! 6. `report`: the terminal, `metrics.jsonl`, TensorBoard.
//! 7. [`output`]: the output folder, checkpoints, probes.
//! 8. [`dry_run`]: a run examined without training it.
//!
//! [`run`] is the training loop over all of them.

pub mod config;
pub mod data;
pub mod dry_run;
pub mod libtorch;
pub mod model;
pub mod output;
mod report;
pub mod step;

pub mod run;
mod startup;

pub mod device;
mod hub;
mod progress;
pub mod random;
