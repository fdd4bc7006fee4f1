//! Exit codes, messages and the progress bar of the programs. Data goes to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use seeward_models::process::Signal;
use seeward_runtime::RewardModel;

/// The end of a program that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Success: exit 0.
    Complete,
    /// Finished, but some rows failed: exit 1.
    SomeRowsFailed,
    /// Interrupted by a signal: exit 130 or 143.
    Stopped(Signal),
}

/// The exit code of a program. Logs an error, whose code is 2.
pub(crate) fn exit(program: &str, result: Result<Ending>) -> ExitCode {
    match result {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::SomeRowsFailed) => ExitCode::from(1),
        Ok(Ending::Stopped(signal)) => ExitCode::from(signal.exit_status()),
        Err(error) => {
            log(program, format_args!("error: {}", message(&error)));
            ExitCode::from(2)
        }
    }
}

/// Writes a message to stderr. A closed stderr does not stop the work.
pub(crate) fn log(program: &str, message: impl Display) {
    let _ = writeln!(io::stderr(), "{program}: {message}");
}

/// Logs what a user should know of a loaded model: nodes that fall back to another of ONNX Runtime's providers, and a
/// precision to replace.
pub(crate) fn log_notices(program: &str, model: &RewardModel) {
    if let Some(advice) = model.bundle().manifest().outdated_precision() {
        log(program, format_args!("notice: {advice}"));
    }
    for nodes in model.fallback_nodes() {
        log(program, format_args!("{}: {nodes}", model.device()));
    }
}

/// Writes data to stdout.
///
/// # Errors
/// stdout is closed, or its disk is full.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).context("stdout")
}

/// The error and its causes, without those that it already includes.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

/// A progress bar over `bytes` with a message and the remaining time, or a line with the message if their number is not
/// known; hidden unless stderr is a terminal.
pub(crate) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:30} {percent:>3} %  {msg}  {eta} left",
        ),
        None => (ProgressBar::no_length(), "{spinner} {msg}"),
    };
    let style = ProgressStyle::with_template(template);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_reported_once() {
        let inner = seeward_models::Error::invalid("expected 1, got 2").at("a.json");
        let error = Err::<(), _>(inner).context("bundle b").unwrap_err();
        assert_eq!(message(&error), "bundle b: a.json: expected 1, got 2");
    }
}
