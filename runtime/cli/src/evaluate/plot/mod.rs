//! Plots in SVG. [`svg`] writes elements and whole documents, [`plane`] maps values to places, [`frame`] has axes for the
//! report's page and [`bar_chart`] is a document of its own.

pub mod bar_chart;
pub(crate) mod frame;
pub mod plane;
pub mod svg;

pub use bar_chart::BarChart;
pub use plane::{Plane, Span};

/// Colours of data series that colour-blind readers can distinguish (Okabe and Ito's palette).
pub const PALETTE: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];
