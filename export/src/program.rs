//! `seeward-export`: the command line over [`export_with`].

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use seeward_models::config::{HeadChoices, PixelLimits};
use seeward_models::kinds::{HeadActivation, Precision, Target};
use seeward_models::net::Branch;
use seeward_models::prompt::Template;
use seeward_models::reading::RewardAt;

use crate::{Options, Progress, Summary, export_with};

const EXAMPLES: &str = "\
Examples:
  seeward-export --checkpoint out/run/checkpoint-last --output bundles/mine
  seeward-export --checkpoint out/run/checkpoint-last --output bundles/text_only --branch text_only
  seeward-score --model bundles/mine --input pairs.jsonl --output scores.jsonl

Exit status: 0 when the bundle is written, 2 on an error, which leaves the output folder unchanged.";

/// Turns a checkpoint into a bundle: ONNX graphs, tokenizer and reward_model.json.
#[derive(Parser)]
#[command(name = "seeward-export", version, after_help = EXAMPLES)]
struct Arguments {
    /// Checkpoint folder: config.json, safetensors and tokenizer files
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Bundle folder to write: new, empty, or an existing bundle, which is replaced
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Target device and operator set of the graphs
    #[arg(long, default_value = "portable", value_parser = one_of(&TARGETS))]
    target: Target,
    /// Precision of weights and computation; on a CPU, bf16 needs --target cpu
    #[arg(long, default_value = "fp32", value_parser = one_of(&DTYPES))]
    dtype: Precision,
    /// Quantized weights instead of --dtype
    #[arg(long, conflicts_with = "dtype", value_parser = one_of(&QUANTIZED))]
    quantize: Option<Precision>,
    /// Model to export from a shortcut-aware checkpoint; text_only is the shortcut proxy
    #[arg(long, default_value = "main", value_parser = one_of(&BRANCHES))]
    branch: Branch,
    /// Maximum number of tokens of a conversation, including its prompt and images [default: as trained, else 4096]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Conversation template of training, if no file of the checkpoint names a known one
    #[arg(long, value_name = "NAME", value_parser = templates())]
    template: Option<Template>,
    /// Fewest pixels of a resized image, for a model that reads whole images [default: as trained, else the folder's]
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// Most pixels of a resized image [default: as trained, else the folder's]
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Nonlinearity between the layers of the score head, if it has several
    #[arg(long, value_parser = one_of(&HeadActivation::NAMED))]
    head_activation: Option<HeadActivation>,
    /// Output of the score head that is the reward, counted from 0, if it has several
    #[arg(long, value_name = "N")]
    head_output: Option<usize>,
    /// Place of the reward: last, mean (over all tokens), or the last of this special token [default: as trained, else last]
    #[arg(long, value_name = "TOKEN")]
    reward_at: Option<String>,
}

const TARGETS: [(&str, Target); 4] = [
    ("portable", Target::Portable),
    ("cpu", Target::Cpu),
    ("cuda", Target::Cuda),
    ("tensorrt", Target::Tensorrt),
];
const DTYPES: [(&str, Precision); 3] = [
    ("fp32", Precision::Fp32),
    ("fp16", Precision::Fp16),
    ("bf16", Precision::Bf16),
];
const QUANTIZED: [(&str, Precision); 2] = [("int8", Precision::Int8), ("int4", Precision::Int4)];
const BRANCHES: [(&str, Branch); 2] = [("main", Branch::Main), ("text_only", Branch::TextOnly)];

/// A parser of the names in `choices`; the help lists them.
fn one_of<T: Copy + Send + Sync + 'static>(
    choices: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(choices.iter().map(|choice| choice.0));
    names.try_map(|name| {
        let choice = choices.iter().find(|choice| choice.0 == name);
        choice.map(|choice| choice.1).ok_or("unknown name")
    })
}

/// A parser of the templates' names; the help lists them.
fn templates() -> impl TypedValueParser<Value = Template> {
    PossibleValuesParser::new(Template::names()).try_map(|name| name.parse::<Template>())
}

impl From<Arguments> for Options {
    fn from(arguments: Arguments) -> Self {
        Self {
            checkpoint: arguments.checkpoint,
            output: arguments.output,
            branch: arguments.branch,
            target: arguments.target,
            precision: arguments.quantize.unwrap_or(arguments.dtype),
            max_length: arguments.max_length,
            template: arguments.template,
            pixels: PixelLimits {
                min: arguments.min_pixels,
                max: arguments.max_pixels,
            },
            head: HeadChoices {
                activation: arguments.head_activation,
                output: arguments.head_output,
                at: arguments.reward_at.as_deref().map(RewardAt::named),
            },
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    main_of(env::args_os())
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main_of(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(&seeward_manual::parse_from::<Arguments>(arguments).into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let bar = progress_bar()?;
    let summary = export_with(options, |Progress { written, total }| {
        bar.set_length(total);
        bar.set_position(written);
    });
    bar.finish_and_clear();
    report(options, &summary?);
    Ok(())
}

/// A bar on stderr, visible in a terminal only.
fn progress_bar() -> anyhow::Result<ProgressBar> {
    let template = "weights {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?))
}

fn report(options: &Options, summary: &Summary) {
    eprintln!(
        "wrote {}: {} tensors, {:.1} MB in {} files",
        options.output.display(),
        summary.tensors,
        summary.bytes() as f64 / 1e6,
        summary.files.len()
    );
    if let Some(notice) = &summary.notice {
        eprintln!("{notice}");
    }
    if summary.skipped_probes > 0 {
        eprintln!(
            "warning: skipped {} of {} probes: their tokens under --max-length differ from those of training, so --check \
             does not cover them",
            summary.skipped_probes,
            summary.probes + summary.skipped_probes
        );
    }
    if options.precision.is_lossy() {
        eprintln!("{}", how_to_check(options, summary));
    }
}

/// The next step after an export whose rewards differ visibly from training's.
fn how_to_check(options: &Options, summary: &Summary) -> String {
    let precision = options.precision;
    if summary.probes == 0 {
        return format!(
            "{precision} costs accuracy, and this bundle has no probes that show how much: compare it with fp32 by \
             seeward-evaluate --compare"
        );
    }
    let device = match options.target {
        Target::Cuda => " --device cuda",
        Target::Tensorrt => " --device tensorrt",
        Target::Portable | Target::Cpu => "",
    };
    format!(
        "{precision} costs accuracy: seeward-score --model {}{device} --check says how much",
        options.output.display()
    )
}
