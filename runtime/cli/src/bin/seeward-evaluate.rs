//! `seeward-evaluate`: preference pairs in, accuracy and its dependence on a text-only shortcut out.

use std::process::ExitCode;

fn main() -> ExitCode {
    seeward_cli::evaluate::main()
}
