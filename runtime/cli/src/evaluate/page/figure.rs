//! A plot with its words, and the names of the models in it.

use serde::Serialize;

/// Display names of the models, in the order of their colours.
pub(super) const MODEL: &str = "model";
pub(super) const TEXT_ONLY: &str = "text-only";
pub(super) const COMPARED: &str = "compared";

/// A plot with its caption, legend (the index of a colour, and a name) and note.
#[derive(Serialize)]
pub(super) struct Figure {
    pub(super) title: String,
    /// An SVG element.
    pub(super) plot: String,
    pub(super) legend: Vec<(usize, String)>,
    pub(super) note: String,
}
