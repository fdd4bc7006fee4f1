//! What the programs share at the terminal: how they end, what they say, and a progress bar. All of it on stderr.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How a program ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is well: exit 0.
    Complete,
    /// Finished, but some rows failed: exit 1.
    SomeRowsFailed,
}

/// The exit code of a program, after saying what went wrong, if anything: exit 2.
pub(crate) fn exit(program: &str, result: anyhow::Result<Ending>) -> ExitCode {
    match result {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::SomeRowsFailed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{program}: error: {}", message(&error));
            ExitCode::from(2)
        }
    }
}

/// The error and its causes, without those that it already tells.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

/// A bar over so many bytes with a message and the time left; hidden where stderr is no terminal.
pub(crate) fn progress_bar(bytes: u64) -> ProgressBar {
    let template = "{bar:30} {percent:>3} %  {msg}  {eta} left";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(bytes).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        let inner = seeward_models::Error::invalid("expected 1, got 2").at("a.json");
        let error = Err::<(), _>(inner).context("bundle b").unwrap_err();
        assert_eq!(message(&error), "bundle b: a.json: expected 1, got 2");
    }
}
