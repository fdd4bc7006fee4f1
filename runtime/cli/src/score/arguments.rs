//! The command line: as typed, then as what the program does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use seeward_models::sample::CarriedKeys;
use seeward_runtime::{DEFAULT_BATCH_TOKENS, Device, InputMode, Options};

use super::check::Check;
use crate::image_folder::ImageFolder;

const EXAMPLES: &str = "Examples:
  seeward-score --model bundles/mine --input rows.jsonl --output scores.jsonl
  seeward-score --model bundles/mine --check

Ctrl-C and SIGTERM stop the run behind the rows that it is scoring, a second one at once; the same command goes on.

Exit status: 0 all well, 1 some rows failed (with --check: other rewards than trained), 2 error, 130 or 143 stopped.";

/// Scores the responses of a JSONL file with a reward model bundle.
///
/// Input rows are {"prompt", "img_path", "responses": […]}; every response becomes a line {"prompt", "img_path",
/// "response", "score", …}. Rows that cannot be scored go to OUT.errors. A run that was cut off goes on where it was.
#[derive(Debug, Parser)]
#[command(name = super::PROGRAM, version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Bundle to score with
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Rows to score
    #[arg(long, value_name = "IN.jsonl", required_unless_present = "check")]
    input: Option<PathBuf>,
    /// File to write; its errors and progress go beside it
    #[arg(long, value_name = "OUT.jsonl", required_unless_present = "check")]
    output: Option<PathBuf>,
    /// Recompute the bundle's probes and say how far apart they are
    #[arg(long, conflicts_with_all = ["input", "output"])]
    check: bool,
    /// Where the model runs: cpu, cuda[:N] or tensorrt[:N]; several of a kind share the rows, as cuda:0,cuda:1
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder that img_path is relative to; no path or link may lead out of it [default: the input's folder]
    #[arg(long, value_name = "DIR")]
    image_root: Option<PathBuf>,
    /// Let absolute paths, `..` and symbolic links lead out of the image root
    #[arg(long)]
    allow_outside_root: bool,
    /// Key that is plain data, although its name suggests an image, a video or turns; may be given often
    #[arg(long, value_name = "KEY")]
    carry: Vec<String>,
    /// Show the model the white image instead of the row's
    #[arg(long, conflicts_with = "image_only")]
    text_only: bool,
    /// Show the model the empty prompt instead of the row's
    #[arg(long)]
    image_only: bool,
    /// Most tokens of one run of the model
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH_TOKENS)]
    batch_tokens: usize,
    /// Threads of the engine and of picture decoding [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder where TensorRT keeps the engines that it builds
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of GPU memory for each of the model's two graphs; CUDA's libraries take some on top [default: no limit]
    #[arg(long, value_name = "BYTES")]
    gpu_memory_limit: Option<u64>,
    /// Most pixels of a picture
    #[arg(long, value_name = "N", default_value_t = Options::default().max_image_pixels)]
    max_image_pixels: u64,
    /// Start afresh instead of going on where an earlier run stopped
    #[arg(long)]
    no_resume: bool,
    /// File to write what the run took
    #[arg(long, value_name = "FILE.json")]
    stats: Option<PathBuf>,
}

/// What to do.
pub(super) enum Task {
    Check(Check),
    Score(Box<Job>),
}

/// A file to score.
pub(crate) struct Job {
    pub(crate) model: PathBuf,
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    /// At least one, of one kind.
    pub(crate) devices: Vec<Device>,
    pub(crate) options: Options,
    pub(crate) images: ImageFolder,
    pub(crate) carried: CarriedKeys,
    pub(crate) resume: bool,
    pub(crate) stats: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn validate(self) -> Result<Task> {
        let devices = devices(&self.device)?;
        let options = self.options(devices[0]);
        let (Some(input), Some(output)) = (self.input, self.output) else {
            if devices.len() > 1 {
                bail!("--device {}: --check needs one device", self.device);
            }
            return Ok(Task::Check(Check {
                model: self.model,
                options,
            }));
        };
        check_files(&input, &output)?;
        Ok(Task::Score(Box::new(Job {
            images: ImageFolder::new(self.image_root, self.allow_outside_root, &input)?,
            model: self.model,
            input,
            output,
            devices,
            options,
            carried: self.carry.into_iter().collect(),
            resume: !self.no_resume,
            stats: self.stats,
        })))
    }

    fn options(&self, device: Device) -> Options {
        let input = match (self.text_only, self.image_only) {
            (true, _) => InputMode::TextOnly,
            (_, true) => InputMode::ImageOnly,
            _ => InputMode::Full,
        };
        let options = Options::default()
            .device(device)
            .threads(self.threads)
            .batch_tokens(self.batch_tokens)
            .max_image_pixels(self.max_image_pixels)
            .input(input)
            .gpu_memory_limit(self.gpu_memory_limit);
        match &self.cache_dir {
            Some(folder) => options.cache_dir(folder),
            None => options,
        }
    }
}

/// Before anything is written: the input is there, and the output is another file.
fn check_files(input: &Path, output: &Path) -> Result<()> {
    let file = input.canonicalize();
    let file = file.with_context(|| input.display().to_string())?;
    if file.is_dir() {
        bail!("{}: expected a file, got a folder", input.display());
    }
    if output.canonicalize().is_ok_and(|output| output == file) {
        bail!("{}: --output would replace the input", output.display());
    }
    Ok(())
}

/// Which device scores which rows is a matter of timing, so that devices of different kinds would write other bytes in
/// every run.
fn devices(text: &str) -> Result<Vec<Device>> {
    let devices: Vec<Device> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    match devices
        .iter()
        .any(|d| d.provider() != devices[0].provider())
    {
        true => bail!("--device {text}: expected devices of one kind, which round alike"),
        false => Ok(devices),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
        assert!(job.resume && job.options.input == InputMode::ImageOnly);
        assert_eq!(job.devices, [Device::Cpu]);
        let Ok(Task::Score(job)) = parse(&format!("{FILES} --device cuda,cuda:1")) else {
            panic!("expected a job");
        };
        assert_eq!(job.devices, [Device::Cuda(0), Device::Cuda(1)]);
        let limit = "--device cuda --gpu-memory-limit 8000000000";
        let Ok(Task::Score(job)) = parse(&format!("{FILES} {limit}")) else {
            panic!("expected a job");
        };
        assert_eq!(job.options.gpu_memory_limit, Some(8_000_000_000));
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
