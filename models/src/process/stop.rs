//! Ctrl-C and SIGTERM: the first signal asks for a stop without loss, the second one ends the process at once.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// A signal that asks a program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

/// The effect of a second signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondSignal {
    /// The process exits with [`Signal::exit_status`].
    Exit,
    /// The signal kills the process, so that the parent sees a death by signal.
    Kill,
}

/// The signal that was received, if any. Clones share it; the default never receives one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Handles signals from now on, for the whole process.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn listen(second: SecondSignal) -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM].map(Signal) {
            // In this order, so that only a second signal finds the flag set.
            let is_second = received.clone();
            match second {
                SecondSignal::Exit => {
                    let status = signal.exit_status().into();
                    flag::register_conditional_shutdown(signal.0, status, is_second)?
                }
                SecondSignal::Kill => flag::register_conditional_default(signal.0, is_second)?,
            };
            flag::register_usize(signal.0, stop.0.clone(), signal.0 as usize)?;
            flag::register(signal.0, received.clone())?;
        }
        Ok(stop)
    }

    /// The signal that was received.
    pub fn signal(&self) -> Option<Signal> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            number => Some(Signal(number as i32)),
        }
    }
}

impl Signal {
    /// The signal of this number.
    pub fn of_number(number: i32) -> Self {
        Self(number)
    }

    /// The number by which the operating system knows it.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The exit status that shells report for a death by this signal: 130 for SIGINT, 143 for SIGTERM.
    pub fn exit_status(self) -> u8 {
        128 + self.0 as u8
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(low_level::signal_name(self.0).unwrap_or("a signal"))
    }
}
