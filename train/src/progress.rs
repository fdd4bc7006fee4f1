//! Messages on stderr, and the progress bars that share it.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Writes a line to stderr. A closed stderr must not end the run.
pub(crate) fn log(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// A progress bar that appears only if the work takes long.
pub(crate) struct PatientBar {
    bar: ProgressBar,
    since: Instant,
}

/// The time before it appears.
const PATIENCE: Duration = Duration::from_secs(2);

impl PatientBar {
    /// A bar of work that is complete at `total`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Self {
            bar: bar.with_style(style()).with_prefix(what),
            since: Instant::now(),
        }
    }

    /// Moves to `position`.
    pub(crate) fn at(&self, position: u64) {
        if self.since.elapsed() > PATIENCE && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(position);
    }
}

impl Drop for PatientBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The style of a bar: task, progress, elapsed and remaining time.
pub(crate) fn style() -> ProgressStyle {
    let template = "{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
