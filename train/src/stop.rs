//! SIGINT and SIGTERM: the first asks the run to stop after the current step, a second one ends the program at once.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal asked the run to stop, and which.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

/// The signal that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

impl Stop {
    /// Installs the signal handlers, for the whole process.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: at the first signal `asked` is still false here, at the second it is true.
            flag::register_conditional_default(signal, stop.asked.clone())?;
            flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
            flag::register(signal, stop.asked.clone())?;
        }
        Ok(stop)
    }

    /// The signal that asked, if one did.
    pub(crate) fn asked(&self) -> Option<Signal> {
        self.asked
            .load(Ordering::SeqCst)
            .then(|| Signal(self.signal.load(Ordering::SeqCst) as u8))
    }
}

impl Signal {
    /// The exit status of a program that the signal ended, by the convention of shells: 130 or 143.
    pub fn exit_status(self) -> u8 {
        128 + self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match i32::from(self.0) {
            SIGINT => "SIGINT",
            _ => "SIGTERM",
        })
    }
}
