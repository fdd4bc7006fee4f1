//! `seeward-train`: preferences → reward model checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use seeward_train::config::Config;
use seeward_train::device;
use seeward_train::dry_run::survey::Survey;
use seeward_train::libtorch::memory;
use seeward_train::run::{self, Ending};
use seeward_train::step::best::Criterion;
use seeward_train::stop::Stop;

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
    /// Trains nothing: reads config, rows and the headers of images, and prints what is in them as one JSON object
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  seeward-train --config configs/demo/standard.yaml
  seeward-train --config my.yaml --set learning_rate=1e-5 --set output_dir=out/run2
  seeward-train --config my.yaml --device cuda:0
  seeward-train --config my.yaml --dry-run

A non-empty output_dir goes on from its newest checkpoint. SIGINT (Ctrl-C) and SIGTERM end the step, save a checkpoint
and stop; a second one stops at once.
Exit status: 0 trained, 1 a dry run found bad rows or images, 2 error, 130 or 143 stopped by SIGINT or SIGTERM.";

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode> {
    memory::keep_freed();
    let (config, notices) = Config::load(&arguments.config, &arguments.sets)?;
    Criterion::of(&config).with_context(|| arguments.config.display().to_string())?;
    notices
        .iter()
        .for_each(|notice| eprintln!("notice: {notice}"));
    let device = device::parse(&arguments.device)?;
    if arguments.dry_run {
        return dry_run(&config);
    }
    if let Some(threads) = config.threads {
        tch::set_num_threads(threads as i32);
    }
    let stop = Stop::on_signals()?;
    Ok(match run::run(&config, device, &stop)? {
        Ending::Complete => ExitCode::SUCCESS,
        Ending::Stopped(signal) => ExitCode::from(signal.exit_status()),
    })
}

fn dry_run(config: &Config) -> Result<ExitCode> {
    let survey = Survey::of(config)?;
    survey.problems.iter().for_each(|line| eprintln!("{line}"));
    let line = serde_json::to_string(&survey)?;
    writeln!(std::io::stdout(), "{line}").context("stdout")?;
    Ok(ExitCode::from(u8::from(!survey.problems.is_empty())))
}
