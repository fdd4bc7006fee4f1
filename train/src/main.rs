//! `seeward-train`: preferences → reward model checkpoint.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use seeward_train::config::Config;
use seeward_train::{device, run};

/// Trains a reward model on preferences.
#[derive(Parser)]
#[command(name = "seeward-train", version, after_help = EXAMPLES)]
struct Arguments {
    /// The run's config, YAML
    #[arg(long)]
    config: PathBuf,
    /// Replaces one key of the config; may be given often
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  seeward-train --config configs/demo/standard.yaml
  seeward-train --config my.yaml --set learning_rate=1e-5 --set output_dir=out/run2
  seeward-train --config my.yaml --device cuda:0

A non-empty output_dir goes on from its newest checkpoint.
Exit status: 0 trained, 2 error.";

fn main() -> ExitCode {
    match train(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn train(arguments: &Arguments) -> Result<()> {
    let (config, notices) = Config::load(&arguments.config, &arguments.sets)?;
    notices
        .iter()
        .for_each(|notice| eprintln!("notice: {notice}"));
    let device = device::parse(&arguments.device)?;
    if let Some(threads) = config.threads {
        tch::set_num_threads(threads as i32);
    }
    run::run(&config, device)
}
