//! `seeward-train`: preferences → reward model checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
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
use seeward_train::world::environment::Environment;
use seeward_train::world::ranks::World;
use seeward_train::world::{fault, launcher};

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
    /// cpu, cuda, cuda:N, or a list of GPUs, one for each process to start
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Start this number of processes that train together [default: one for each listed device]
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// With --dry-run: estimate for this number of processes
    #[arg(long, value_name = "N", requires = "dry_run", default_value_t = 1)]
    world_size: usize,
    /// Train nothing: read config, rows and image headers, and print a summary as one JSON object
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    /// The replacements of keys.
    fn sets(&self) -> Vec<String> {
        let format = self.format.iter();
        let format = format.map(|name| format!("dataset_format={name}"));
        self.sets.iter().cloned().chain(format).collect()
    }

    /// The arguments of each process that this one starts, without the device.
    fn of_process(&self) -> Vec<String> {
        let config = ["--config".to_owned(), self.config.display().to_string()];
        let sets = self.sets().into_iter();
        let sets = sets.flat_map(|set| ["--set".to_owned(), set]);
        config.into_iter().chain(sets).collect()
    }
}

const EXAMPLES: &str = "\
Examples:
  seeward-train --config configs/demo/standard.yaml
  seeward-train --config my.yaml --set learning_rate=1e-5 --set output_dir=out/run2
  seeward-train --config my.yaml --device cuda:0
  seeward-train --config my.yaml --device cuda:0,cuda:1
  seeward-train --config my.yaml --dry-run

In a non-empty output_dir a run resumes from the newest checkpoint. SIGINT (Ctrl-C) and SIGTERM finish the step, save
a checkpoint and stop; a second one stops at once.
Exit status: 0 trained, 1 a dry run found bad rows or images, 2 error, 130 or 143 stopped by SIGINT or SIGTERM.";

fn main() -> ExitCode {
    match start(&seeward_manual::parse::<Arguments>()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode> {
    memory::keep_freed();
    let (config, notices) = Config::load(&arguments.config, &arguments.sets())?;
    Criterion::of(&config).with_context(|| arguments.config.display().to_string())?;
    let environment = Environment::read()?;
    if arguments.dry_run {
        log(&notices);
        return dry_run(&config, arguments.world_size);
    }
    let devices = launcher::devices(&arguments.device, arguments.processes, &environment)?;
    if let Some(devices) = devices {
        let status = launcher::launch(&devices, &arguments.of_process())?;
        return Ok(ExitCode::from(status));
    }
    if environment.ranks.rank == 0 {
        log(&notices);
    }
    let device = device::parse(&arguments.device, environment.local)?;
    tch::set_num_threads(threads(&config));
    let _watch = Watch::start();
    let stop = Stop::listen(SecondSignal::Kill)?;
    let timeout = Duration::from_secs(config.ddp_timeout as u64);
    let world = Rc::new(World::open(&environment, timeout, device)?);
    Ok(
        match together(world, |world| run::run(&config, device, world, &stop))? {
            Ending::Complete => ExitCode::SUCCESS,
            Ending::Stopped(signal) => ExitCode::from(signal.exit_status()),
        },
    )
}

/// LibTorch's own default, `OMP_NUM_THREADS` or the machine's cores, knows no quota.
fn threads(config: &Config) -> i32 {
    let default = || tch::get_num_threads().min(process::cores() as i32);
    config
        .threads
        .map_or_else(default, |threads| threads as i32)
}

/// Runs `f`. Its error ends all processes of the world.
fn together<T>(world: Rc<World>, f: impl FnOnce(&Rc<World>) -> Result<T>) -> Result<T> {
    let result = f(&world).map_err(|error| {
        let problem = format!("{error:#}");
        let named = world.named(&problem);
        fault::record(&named);
        world.fail(&problem);
        anyhow!(named)
    })?;
    Rc::into_inner(world).map_or(Ok(()), World::close)?;
    Ok(result)
}

fn log(notices: &[String]) {
    notices
        .iter()
        .for_each(|notice| eprintln!("notice: {notice}"));
}

fn dry_run(config: &Config, processes: usize) -> Result<ExitCode> {
    let survey = Survey::of(config, processes)?;
    survey.problems.iter().for_each(|line| eprintln!("{line}"));
    let line = serde_json::to_string(&survey)?;
    writeln!(std::io::stdout(), "{line}").context("stdout")?;
    Ok(ExitCode::from(u8::from(!survey.problems.is_empty())))
}
