//! The ops that are more than a node or two, as standard operators. What differs by target belongs here.

pub(crate) mod attention;
pub(crate) mod norm;
pub(crate) mod patches;
pub(crate) mod rope;
