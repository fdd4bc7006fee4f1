//! `seeward-import`: Parquet files of preferences in, rows.jsonl and images out.

use std::process::ExitCode;

fn main() -> ExitCode {
    seeward_cli::import::main()
}
