//! The output folder and its checkpoints.

pub(crate) mod checkpoint;
pub(crate) mod disk_space;
pub mod folder;
pub(crate) mod probes;
pub(crate) mod resume;
pub(crate) mod saver;
pub mod trainer_state;
