//! Training of Seeward reward models with LibTorch, the only crate that links it. The modules, in the order of the flow:
//!
//! 1. [`config`]: the YAML file of a run, checked.
//! 2. [`world`]: the processes that train together, if there are several.
//! 3. [`data`]: rows of preferences → batches, prepared on the host while the model computes.
//! 4. [`libtorch`]: the network as differentiable operations, its weights, its precision, its memory.
//! 5. [`model`]: the branches, read from checkpoints and set up for training.
//! 6. [`step`]: one optimizer step: loss, gradients, update, measures.
//! 7. `report`: the terminal, `metrics.jsonl`, TensorBoard.
//! 8. [`output`]: the output folder, checkpoints, probes.
//! 9. [`dry_run`]: a run examined without training it.
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
pub mod world;

pub mod run;
mod startup;

pub mod device;
mod hub;
mod progress;
pub mod random;
