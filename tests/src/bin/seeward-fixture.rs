//! `seeward-fixture`: the demo's data, first checkpoint and report, the study's, and random checkpoints of any config.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand};
use seeward_models::checkpoint::Dtype;
use seeward_models::config::Config;
use seeward_tests::fixture::Style;
use seeward_tests::fixture::checkpoint::RandomCheckpoint;
use seeward_tests::fixture::demo_data::{self, DemoData};
use seeward_tests::fixture::{demo_checkpoint, report, study};

const EXAMPLES: &str = "Examples:
  seeward-fixture demo-data --images third_party/easy_vqa --output out/demo/data
  seeward-fixture demo-checkpoint --data out/demo/data --output out/demo/init
  seeward-fixture demo-checkpoint --data out/demo/data --output out/demo/tiny --layers 1 --width 32 --without-vision
  seeward-fixture checkpoint --config config.json --output out/random --score-head
  seeward-fixture demo-report --demo out/demo --seconds 600
  seeward-fixture study-report --study out/study";

/// Makes the demo's material, and random checkpoints of any config.
#[derive(Parser)]
#[command(name = "seeward-fixture", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Preference pairs with a planted style, of easy-VQA's pictures and questions
    DemoData(DemoDataArguments),
    /// A tiny InternVL with random weights, and a tokenizer trained on the demo's data
    DemoCheckpoint(DemoCheckpointArguments),
    /// Random weights of any supported config
    Checkpoint(CheckpointArguments),
    /// The demo's scores as summary.json, a table and a plot
    DemoReport(DemoReportArguments),
    /// The numbers of one model of the study as a JSON file
    StudyCell(StudyCellArguments),
    /// The study's cells as summary.json, table.md and plots
    StudyReport(StudyReportArguments),
}

#[derive(Args)]
struct DemoDataArguments {
    /// Data folder of the easy-VQA package
    #[arg(long)]
    images: PathBuf,
    /// Folder to make
    #[arg(long)]
    output: PathBuf,
    /// Seed of every draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Style that goes with the preference in training
    #[arg(long, value_enum, default_value_t = Style::Polite)]
    style: Style,
    /// Share of training and development pairs whose visually wrong response is recorded as chosen
    #[arg(long, default_value_t = demo_data::LABEL_NOISE)]
    label_noise: f64,
    /// Pairs in each test set
    #[arg(long, default_value_t = demo_data::TEST_PAIRS)]
    test_pairs: usize,
}

#[derive(Args)]
struct DemoCheckpointArguments {
    /// Folder made by demo-data
    #[arg(long)]
    data: PathBuf,
    /// Folder to make
    #[arg(long)]
    output: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Width of the language model
    #[arg(long, default_value_t = 64)]
    width: usize,
    /// Layers of the language model
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Leaves the vision encoder out: for a text-only branch (bias_model_path)
    #[arg(long)]
    without_vision: bool,
}

#[derive(Args)]
struct CheckpointArguments {
    /// A config.json
    #[arg(long)]
    config: PathBuf,
    /// Folder to make
    #[arg(long)]
    output: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Element type of the weights: fp32, fp16 or bf16
    #[arg(long, default_value = "fp32", value_parser = dtype)]
    dtype: Dtype,
    /// Adds score heads, as a reward model has them
    #[arg(long)]
    score_head: bool,
    /// Adds the text-only branch of a shortcut-aware reward model
    #[arg(long)]
    text_only_branch: bool,
    /// Folder whose tokenizer is copied
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

#[derive(Args)]
struct DemoReportArguments {
    /// The demo's folder, with data/ and scores/
    #[arg(long)]
    demo: PathBuf,
    /// How long the demo took
    #[arg(long)]
    seconds: f64,
}

#[derive(Args)]
struct StudyCellArguments {
    /// The environment's folder, with data/, runs/ and scores/
    #[arg(long)]
    folder: PathBuf,
    /// What everything was drawn with
    #[arg(long)]
    seed: u64,
    /// The style that training planted
    #[arg(long, value_enum)]
    environment: Style,
    /// What the model is called in the folder
    #[arg(long, value_parser = method)]
    method: String,
    /// File to write
    #[arg(long)]
    output: PathBuf,
}

#[derive(Args)]
struct StudyReportArguments {
    /// The study's folder, with cells/
    #[arg(long)]
    study: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeward-fixture: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::DemoData(a) => {
            let data = DemoData {
                seed: a.seed,
                style: a.style,
                label_noise: a.label_noise,
                test_pairs: a.test_pairs,
            };
            data.write(&a.images, &a.output)
        }
        Command::DemoCheckpoint(a) => {
            let size = demo_checkpoint::Size {
                width: a.width,
                layers: a.layers,
                vision: !a.without_vision,
            };
            demo_checkpoint::write(&a.data, &a.output, size, a.seed)
        }
        Command::Checkpoint(a) => checkpoint(&a),
        Command::DemoReport(a) => {
            print!("{}", report::write(&a.demo, a.seconds)?);
            Ok(())
        }
        Command::StudyCell(a) => {
            let cell = study::Cell::collect(&a.folder, a.seed, a.environment.name(), &a.method)?;
            cell.write(&a.output)
        }
        Command::StudyReport(a) => {
            print!("{}", study::report(&a.study)?);
            Ok(())
        }
    }
}

fn checkpoint(arguments: &CheckpointArguments) -> Result<()> {
    let checkpoint = RandomCheckpoint {
        config: read_config(&arguments.config)?,
        seed: arguments.seed,
        dtype: arguments.dtype,
        score_head: arguments.score_head,
        text_only_branch: arguments.text_only_branch,
    };
    checkpoint.write(&arguments.output, arguments.tokenizer.as_deref())
}

fn method(name: &str) -> Result<String> {
    let known = study::METHODS.map(|(method, _)| method);
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(anyhow!("expected one of {}", known.join(", "))),
    }
}

fn dtype(name: &str) -> Result<Dtype> {
    match name {
        "fp32" => Ok(Dtype::F32),
        "fp16" => Ok(Dtype::F16),
        "bf16" => Ok(Dtype::Bf16),
        _ => Err(anyhow!("expected fp32, fp16 or bf16")),
    }
}

fn read_config(path: &Path) -> Result<Config> {
    let place = || path.display().to_string();
    let text = std::fs::read(path).map_err(|e| seeward_models::Error::io(path, e))?;
    let value = serde_json::from_slice(&text).map_err(|e| anyhow!("{}: {e}", place()))?;
    Ok(Config::parse(value).map_err(|e| e.at(place()))?)
}
