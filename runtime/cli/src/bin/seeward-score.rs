//! `seeward-score`: JSONL rows in, one line with a reward for each response out.

use std::process::ExitCode;

fn main() -> ExitCode {
    seeward_cli::score::main()
}
