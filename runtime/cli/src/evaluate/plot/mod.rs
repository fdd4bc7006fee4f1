//! Plots in SVG. [`svg`] writes elements and documents, [`plane`] maps values to coordinates, `frame` has the axes of the
//! report's page, and [`bar_chart`] is a separate document.

pub mod bar_chart;
pub(crate) mod frame;
pub mod plane;
pub mod svg;

pub use bar_chart::BarChart;
pub use plane::{Plane, Span};
pub use svg::PALETTE;
