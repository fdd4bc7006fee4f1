//! The programs, run within the interpreter: the same code, bytes and exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use pyo3::prelude::*;

/// Runs a program. Help and wrong flags end the process, as they end the program.
fn run(
    py: Python<'_>,
    main: impl FnOnce(Vec<OsString>) -> ExitCode + Send,
    arguments: Vec<OsString>,
) -> u8 {
    let code = py.detach(|| main(arguments));
    // Exit codes can be compared and not read.
    (0..=u8::MAX)
        .find(|number| ExitCode::from(*number) == code)
        .unwrap_or(u8::MAX)
}

/// `seeward-score`; the first argument is its name.
#[pyfunction]
pub(crate) fn score_main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    run(py, seeward_cli::score::main_of, arguments)
}

/// `seeward-evaluate`.
#[pyfunction]
pub(crate) fn evaluate_main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    run(py, seeward_cli::evaluate::main_of, arguments)
}

/// `seeward-import`.
#[pyfunction]
pub(crate) fn import_main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    run(py, seeward_cli::import::main_of, arguments)
}

/// `seeward-export`.
#[pyfunction]
pub(crate) fn export_main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    run(py, seeward_export::main_of, arguments)
}

/// `seeward-serve`.
#[pyfunction]
pub(crate) fn serve_main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    run(py, seeward_serve::main_of, arguments)
}
