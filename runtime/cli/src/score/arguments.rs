//! The command line of `seeward-score`: as typed, then validated.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use seeward_models::rows;
use seeward_runtime::{DEFAULT_BATCH_TOKENS, InputMode, Options};

use super::job::{Check, Correction, Job, Merge, Reference, is_stream};
use super::shard::Shard;
use crate::arguments::{EngineOptions, SharedArguments};

pub(super) const PROGRAM: &str = "seeward-score";

const EXAMPLES: &str = "Examples:
  seeward-score --model bundles/mine --input rows.jsonl --output scores.jsonl
  seeward-score --model bundles/mine --check
  seeward-score --model bundles/int8 --correct-mean
  seeward-score --model bundles/mine --input rows.jsonl --output scores.jsonl --shard 0/2   (and 1/2, anywhere)
  seeward-score --merge --output scores.jsonl
  zcat rows.jsonl.gz | seeward-score --model bundles/mine --input - --output - | head

Ctrl-C and SIGTERM stop the run after the rows that are being scored, a second signal at once; rerun the same command
to resume.

Exit status: 0 success, 1 some rows failed (with --check: the rewards differ from training), 2 error, 130 or 143
stopped by a signal.";

const DEVICES: &str =
    "Device: cpu, cuda[:N] or tensorrt[:N]; several of one kind share the rows: cuda:0,cuda:1";

/// Scores the responses of a JSONL file with a reward model bundle.
///
/// Input rows are {"prompt", "img_path", "responses": […]}; every response becomes a line {"prompt", "img_path",
/// "response", "score", …}. Rows that cannot be scored go to OUT.errors. An interrupted run resumes.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = EXAMPLES)]
#[command(mut_arg("device", |device| device.help(DEVICES)))]
pub(super) struct Arguments {
    /// Bundle to score with
    #[arg(long, value_name = "BUNDLE", required_unless_present = "merge")]
    model: Option<PathBuf>,
    /// Rows to score: JSON lines or a JSON array, plain or compressed by gzip or zstd; - is standard input
    #[arg(long, value_name = "IN.jsonl", required_unless_present_any = ["check", "correct_mean", "merge"])]
    input: Option<PathBuf>,
    /// File to write; OUT.jsonl.errors and OUT.jsonl.progress are written next to it. - is standard output: no file is
    /// written, failed rows go to stderr, and no run resumes
    #[arg(long, value_name = "OUT.jsonl", required_unless_present_any = ["check", "correct_mean"])]
    output: Option<PathBuf>,
    /// Score a part of the input, the one of index I (from 0) of N: whole windows of 32 rows, written to
    /// OUT.jsonl.shard-I-of-N
    #[arg(long, value_name = "I/N", conflicts_with_all = ["check", "correct_mean"])]
    shard: Option<Shard>,
    /// Join the finished shards of --output to the files that one run would have written
    #[arg(long, requires = "output", conflicts_with_all = ["model", "input", "shard", "check", "correct_mean", "stats"])]
    merge: bool,
    /// Score the bundle's probes again and compare the rewards with the trainer's
    #[arg(long, conflicts_with_all = ["input", "output"])]
    check: bool,
    /// Measure the mean error of a bundle in bf16 or int8 on its probes, or on --input with --reference, and store minus it
    /// in the bundle: it is then added to every reward. A second call replaces the first
    #[arg(long, conflicts_with_all = ["output", "check", "text_only", "image_only"])]
    correct_mean: bool,
    /// With --correct-mean: the scores of --input that seeward-score wrote with the same checkpoint in fp32
    #[arg(long, value_name = "SCORES.jsonl", requires = "input")]
    reference: Option<PathBuf>,
    /// Replace the images of every row by a white one
    #[arg(long, conflicts_with = "image_only")]
    text_only: bool,
    /// Replace the prompt of every row by the empty one
    #[arg(long)]
    image_only: bool,
    /// Maximum number of tokens in one run of the model
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH_TOKENS)]
    batch_tokens: usize,
    /// Folder of TensorRT's engine cache
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Maximum number of pixels of an image
    #[arg(long, value_name = "N", default_value_t = Options::default().max_image_pixels)]
    max_image_pixels: u64,
    /// File for counts, rates, time and memory of the run
    #[arg(long, value_name = "FILE.json")]
    stats: Option<PathBuf>,
    #[command(flatten)]
    shared: SharedArguments,
}

/// The task that the arguments ask for.
pub(super) enum Task {
    Check(Check),
    Correct(Box<Correction>),
    Merge(Merge),
    Score(Box<Job>),
}

impl Arguments {
    /// # Errors
    /// Contradictory flags, an unknown device or a missing file.
    pub(super) fn validate(self) -> Result<Task> {
        if self.reference.is_some() && !self.correct_mean {
            bail!("--reference: expected --correct-mean, which it is for");
        }
        if self.correct_mean {
            return Ok(Task::Correct(Box::new(self.correction()?)));
        }
        if self.merge {
            return Ok(Task::Merge(Merge {
                output: self.output.unwrap_or_default(),
                replace: !self.shared.resume(),
            }));
        }
        let model = self.model.clone().unwrap_or_default();
        let (Some(input), Some(output)) = (&self.input, &self.output) else {
            return Ok(Task::Check(Check {
                options: self.options_on_one_device("--check")?,
                model,
            }));
        };
        let (input, output) = (input.clone(), self.output_of_shard(output)?);
        let (devices, engine) = (self.shared.devices()?, self.engine());
        check_files(&input, &output)?;
        Ok(Task::Score(Box::new(Job {
            images: self.shared.images(&input)?,
            model,
            input,
            output,
            devices,
            engine,
            carried: self.shared.carried(),
            resume: self.shared.resume(),
            stats: self.stats,
            shard: self.shard,
        })))
    }

    /// The file to write: the shard's own, if there is one.
    fn output_of_shard(&self, output: &Path) -> Result<PathBuf> {
        match self.shard {
            None => Ok(output.to_owned()),
            Some(_) if is_stream(output) => bail!(
                "--shard: {}: expected a file as --output, which --merge joins",
                output.display()
            ),
            Some(shard) => Ok(shard.file(output)),
        }
    }

    fn correction(self) -> Result<Correction> {
        let reference = match (&self.input, &self.reference) {
            (Some(input), Some(scores)) => Some(Reference {
                input: input.clone(),
                scores: scores.clone(),
                images: self.shared.images(input)?,
                carried: self.shared.carried(),
            }),
            (Some(_), None) => {
                bail!("--correct-mean: --input needs its scores in fp32: --reference")
            }
            (None, _) => None,
        };
        Ok(Correction {
            options: self.options_on_one_device("--correct-mean")?,
            model: self.model.unwrap_or_default(),
            reference,
        })
    }

    fn options_on_one_device(&self, flag: &str) -> Result<Options> {
        let devices = self.shared.devices()?;
        let [device] = devices[..] else {
            bail!("--device: {flag} needs one device, got {}", devices.len());
        };
        Ok(self.engine().on(device))
    }

    fn engine(&self) -> EngineOptions {
        EngineOptions {
            batch_tokens: self.batch_tokens,
            max_image_pixels: self.max_image_pixels,
            input_mode: match (self.text_only, self.image_only) {
                (true, _) => InputMode::TextOnly,
                (_, true) => InputMode::ImageOnly,
                _ => InputMode::Full,
            },
            cache_dir: self.cache_dir.clone(),
            ..self.shared.engine()
        }
    }
}

/// Checks, before anything is written, that the input exists and that the output is another file.
fn check_files(input: &Path, output: &Path) -> Result<()> {
    if rows::is_stdin(input) {
        return Ok(());
    }
    let file = input.metadata();
    let file = file.with_context(|| input.display().to_string())?;
    if file.is_dir() {
        bail!("{}: expected a file, got a folder", input.display());
    }
    let same = |input: PathBuf| output.canonicalize().is_ok_and(|output| output == input);
    if file.is_file() && input.canonicalize().is_ok_and(same) {
        bail!("{}: --output would replace the input", output.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use seeward_runtime::Device;

    const FILES: &str = concat!(
        "--model b --output o.jsonl --input ",
        env!("CARGO_MANIFEST_DIR"),
        "/Cargo.toml"
    );

    fn parse(arguments: &str) -> Result<Task> {
        let arguments = arguments.split_whitespace();
        Arguments::try_parse_from(["seeward-score"].into_iter().chain(arguments))?.validate()
    }

    #[test]
    fn a_job_needs_its_files_and_a_check_none() {
        assert!(parse("--model b --input i.jsonl").is_err());
        assert!(parse("--model b --check --input i.jsonl").is_err());
        assert!(matches!(parse("--model b --check"), Ok(Task::Check(_))));
        let Ok(Task::Score(job)) = parse(&format!("{FILES} --image-only")) else {
            panic!("expected a job");
        };
        assert!(job.resume && job.engine.input_mode == InputMode::ImageOnly);
        assert_eq!(job.devices, [Device::Cpu]);
        let Ok(Task::Score(job)) = parse(&format!("{FILES} --device cuda,cuda:1")) else {
            panic!("expected a job");
        };
        assert_eq!(job.devices, [Device::Cuda(0), Device::Cuda(1)]);
        let limit = "--device cuda --gpu-memory-limit 8000000000";
        let Ok(Task::Score(job)) = parse(&format!("{FILES} {limit}")) else {
            panic!("expected a job");
        };
        assert_eq!(job.engine.gpu_memory_limit, Some(8_000_000_000));
    }

    #[test]
    fn a_correction_needs_both_files_or_none() {
        let rows = concat!("--input ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let correct = |more: &str| parse(&format!("--model b --correct-mean {more}"));
        let Ok(Task::Correct(correction)) = correct("") else {
            panic!("expected a correction");
        };
        assert!(correction.reference.is_none());
        let Ok(Task::Correct(correction)) = correct(&format!("{rows} --reference s.jsonl")) else {
            panic!("expected a correction");
        };
        assert_eq!(correction.reference.unwrap().scores, Path::new("s.jsonl"));
        for more in [
            rows,
            "--reference s",
            "--output o",
            "--check",
            "--text-only",
        ] {
            assert!(correct(more).is_err(), "{more}");
        }
        let refused = parse(&format!("{FILES} --reference s")).err().unwrap();
        assert!(refused.to_string().contains("--correct-mean"), "{refused}");
    }

    #[test]
    fn contradictions_and_unknown_devices_are_refused() {
        assert!(parse(&format!("{FILES} --text-only --image-only")).is_err());
        let refused = |device: &str| match parse(&format!("{FILES} --device {device}")) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{device} is accepted"),
        };
        let message = |arguments: &str| parse(arguments).err().unwrap().to_string();
        assert!(message("--model b --output o --input no/such").starts_with("no/such"));
        assert!(message(&FILES.replace("o.jsonl", "Cargo.toml")).contains("replace the input"));
        assert!(refused("gpu").contains("expected cpu, cuda[:N]"));
        assert!(refused("cpu,cuda:1").contains("devices of one kind"));
        assert!(refused("cpu,").contains("expected cpu, cuda[:N]"));
        assert!(message("--model b --check --device cpu,cpu").contains("one device"));
    }
}
