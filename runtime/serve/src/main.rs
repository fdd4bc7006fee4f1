//! `seeward-serve`: a reward model bundle as an HTTP service.

use std::process::ExitCode;

fn main() -> ExitCode {
    seeward_serve::main()
}
