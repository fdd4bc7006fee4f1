//! Training of Seeward reward models with LibTorch: the network's differentiable interpreter, the losses, the optimizer
//! and the loop. The only crate that links LibTorch.

pub mod batch;
pub mod checkpointing;
pub mod config;
pub mod data;
pub mod device;
pub mod events;
pub mod hub;
pub mod loader;
pub mod loss;
pub mod metrics;
pub mod model;
mod native;
pub mod optimizer;
pub mod output;
pub mod parameters;
pub mod pass;
pub mod plan;
pub mod precision;
pub mod probes;
pub mod random;
pub mod report;
pub mod run;
pub mod saving;
pub mod schedule;
pub mod setup;
pub mod space;
pub mod state;
pub mod stop;
pub mod survey;
pub mod torch;
pub mod trainer;
mod vocabulary;
