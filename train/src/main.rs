//! `seeward-train`: preferences → reward model checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use seeward_models::process::{self, SecondSignal, Stop};
use seeward_models::sample::Format;
use seeward_train::config::Config;
use seeward_train::device;
use seeward_train::dry_run::survey::Survey;
use seeward_train::libtorch::contention::Watch;
use seeward_train::libtorch::memory;
use seeward_train::run::{self, Ending};
use seeward_train::step::best::Criterion;

/// Trains a reward model on preferences.
#[derive(Parser)]
#[command(name = "seeward-train", version, after_help = EXAMPLES)]
struct Arguments {
    /// Config of the run, YAML
    #[arg(long)]
    config: PathBuf,
    /// Replace one key of the config; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Format of the training and evaluation rows: short for --set dataset_format=NAME [default: recognised by the keys]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Format::names()), hide_possible_values = true)]
    format: Option<String>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Train nothing: read config, rows and image headers, and print a summary as one JSON object
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  seeward-train --config configs/demo/standard.yaml
  seeward-train --config my.yaml --set learning_rate=1e-5 --set output_dir=out/run2
  seeward-train --config my.yaml --device cuda:0
  seeward-train --config my.yaml --dry-run

In a non-empty output_dir a run resumes from the newest checkpoint. SIGINT (Ctrl-C) and SIGTERM finish the step, save
a checkpoint and stop; a second one stops at once.
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
    let format = arguments.format.iter();
    let sets = arguments.sets.iter().cloned();
    let sets: Vec<_> = sets
        .chain(format.map(|name| format!("dataset_format={name}")))
        .collect();
    let (config, notices) = Config::load(&arguments.config, &sets)?;
    Criterion::of(&config).with_context(|| arguments.config.display().to_string())?;
    notices
        .iter()
        .for_each(|notice| eprintln!("notice: {notice}"));
    let device = device::parse(&arguments.device)?;
    if arguments.dry_run {
        return dry_run(&config);
    }
    tch::set_num_threads(threads(&config));
    let _watch = Watch::start();
    let stop = Stop::listen(SecondSignal::Kill)?;
    Ok(match run::run(&config, device, &stop)? {
        Ending::Complete => ExitCode::SUCCESS,
        Ending::Stopped(signal) => ExitCode::from(signal.exit_status()),
    })
}

/// LibTorch's own default, `OMP_NUM_THREADS` or the machine's cores, knows no quota.
fn threads(config: &Config) -> i32 {
    let default = || tch::get_num_threads().min(process::cores() as i32);
    config
        .threads
        .map_or_else(default, |threads| threads as i32)
}

fn dry_run(config: &Config) -> Result<ExitCode> {
    let survey = Survey::of(config)?;
    survey.problems.iter().for_each(|line| eprintln!("{line}"));
    let line = serde_json::to_string(&survey)?;
    writeln!(std::io::stdout(), "{line}").context("stdout")?;
    Ok(ExitCode::from(u8::from(!survey.problems.is_empty())))
}
