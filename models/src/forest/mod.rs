//! The token layout: conversations that begin alike share their prefix in one row, each response in a separate branch.
//!
//! ```text
//! [ prefix p0 … pP-1 | response 1 | response 2 | … | response N | next document … | padding ]
//! ```
//!
//! A token sees the earlier tokens of its document that lie in the prefix (branch 0) or in its branch.
//! Positions restart after the prefix for every branch, so the ids and rewards are those of N separate runs. Conversations whose
//! lengths scale rotary positions differently share nothing.

mod cost;
mod document;
mod layout;
mod packing;
mod positions;

pub use cost::{Cost, ModelFlops, Rates};
pub use document::Document;
pub use layout::{Forest, GPU_ROW_MULTIPLE, Placement};
pub use packing::{Batch, LAYOUT_VERSION, Packing, batches};

#[cfg(test)]
mod tests;
