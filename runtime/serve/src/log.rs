//! Log lines on stderr, as text or JSON.

use std::io;

use clap::ValueEnum;
use tracing_subscriber::fmt;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Starts logging, once for the process.
pub(crate) fn start(format: LogFormat) {
    let builder = fmt().with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
