//! The reward service: HTTP requests of RL trainers in, rewards out. `docs/serving.md` describes it for users.
//!
//! A request's way: `listen` accepts the connection, `router` routes it, `admission` reads its body within the
//! budget of bytes, a `wire` turns the body into rows, `addresses` fetches images of other hosts, `scoring` hands the rows to
//! the runtime's batcher, and the wire writes the answer. Everything that takes CPU time runs outside of the threads that serve sockets.

mod addresses;
mod admission;
mod answer;
mod arguments;
mod budget;
mod errors;
mod health;
mod image_root;
mod images;
mod keys;
mod listen;
mod log;
mod metrics;
mod policy_template;
mod reach;
mod remote;
mod router;
mod run;
mod scoring;
mod state;
mod status;
mod wire;

pub use run::{main, main_of};
