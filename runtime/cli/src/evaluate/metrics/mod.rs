//! Metrics of preference pairs, computed from margins alone.
//!
//! A pair's *margin* is the reward of its better response minus that of the other: the model is right if it is
//! positive. A margin of zero counts as half right, so a constant model is at chance.

pub mod accuracy;
pub mod agreement;
pub mod best_of_n;
pub mod calibration;
pub mod groups;
pub mod length;
pub mod margins;
pub mod shortcut;

pub use accuracy::{Accuracy, Measured};
pub use agreement::Agreement;
pub use best_of_n::BestOfN;
pub use calibration::Calibration;
pub use groups::Groups;
pub use length::Length;
pub use margins::Margins;
pub use shortcut::{Shortcut, shortcut_failure_degradation};
