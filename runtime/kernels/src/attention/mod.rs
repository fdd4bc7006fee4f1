//! Attention over a forest or within windows. It multiplies in bf16 and needs no mask: keys that a token does not see are
//! skipped.

mod attend;
mod dispatch;
mod head;
mod packed;
#[cfg(test)]
mod tests;
mod visibility;

pub use attend::{Attention, AttentionShape};
pub use visibility::Visibility;
