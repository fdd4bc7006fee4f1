//! `seeward-export`: a checkpoint becomes a bundle.

use std::process::ExitCode;

fn main() -> ExitCode {
    seeward_export::main()
}
