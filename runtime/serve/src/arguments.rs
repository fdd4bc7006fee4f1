//! The command line: as typed, then validated.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use seeward_runtime::{
    BatchConfig, DEFAULT_BATCH_TOKENS, Device, InputMode, Options, ParseDeviceError,
};

use crate::budget::budget;
use crate::image_root::ImageRoot;
use crate::images::Images;
use crate::keys::Keys;
use crate::listen::{Address, Limits};
use crate::log::LogFormat;
use crate::policy_template::PolicyTemplate;
use crate::remote::{Host, Remote, RemoteOptions};
use crate::state::Settings;
use crate::wire::Context;

pub(crate) const PROGRAM: &str = "seeward-serve";

const EXAMPLES: &str = "Examples:
  seeward-serve --model bundles/mine --listen 127.0.0.1:8080
  curl localhost:8080/v1/rewards --json '{\"prompt\": \"Is water wet?\", \"responses\": [\"Yes.\", \"No.\"]}'

Routes: POST /v1/rewards, /v1/chat/completions, /get_reward, /remote_rm, /classify; GET /v1/models, /info, /live, /ready,
/metrics. docs/serving.md describes them.

SIGTERM and Ctrl-C end the service after every accepted request has been answered, a second signal ends it at once.

Exit status: 0 stopped, 1 the rewards of the bundle's probes differ from training, 2 error, 130 or 143 a second signal.";

/// Serves a reward model bundle over HTTP.
///
/// Every flag may also be given by the environment: SEEWARD_SERVE_<FLAG>. The flag has precedence.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Bundle to score with
    #[arg(long, value_name = "BUNDLE", env = "SEEWARD_SERVE_MODEL")]
    model: PathBuf,
    /// Address: HOST:PORT, or unix:PATH
    #[arg(long, default_value = "127.0.0.1:8080", env = "SEEWARD_SERVE_LISTEN")]
    listen: Address,
    /// Device: cpu, cuda[:N] or tensorrt[:N]; several of one kind, separated by commas, share the requests
    #[arg(long, default_value = "cpu", env = "SEEWARD_SERVE_DEVICE")]
    device: Devices,
    /// Threads of the engine and of image decoding [default: one per CPU core]
    #[arg(long, value_name = "N", env = "SEEWARD_SERVE_THREADS")]
    threads: Option<usize>,
    /// Maximum number of tokens in one run of the model
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH_TOKENS, env = "SEEWARD_SERVE_BATCH_TOKENS")]
    batch_tokens: usize,
    /// GPU memory limit in bytes for each of the two graphs; CUDA libraries use additional memory [default: no limit]
    #[arg(long, value_name = "BYTES", env = "SEEWARD_SERVE_GPU_MEMORY_LIMIT")]
    gpu_memory_limit: Option<u64>,
    /// Folder of TensorRT's engine cache
    #[arg(long, value_name = "DIR", env = "SEEWARD_SERVE_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Replace the images of every request by a white one
    #[arg(long, conflicts_with = "image_only", env = "SEEWARD_SERVE_TEXT_ONLY")]
    text_only: bool,
    /// Replace the prompt of every request by the empty one
    #[arg(long, env = "SEEWARD_SERVE_IMAGE_ONLY")]
    image_only: bool,
    /// Folder of images that requests name by path; no path or link may leave it [default: none may be named]
    #[arg(long, value_name = "DIR", env = "SEEWARD_SERVE_IMAGE_ROOT")]
    image_root: Option<PathBuf>,
    /// Allow paths to leave the image root
    #[arg(
        long,
        requires = "image_root",
        env = "SEEWARD_SERVE_ALLOW_OUTSIDE_ROOT"
    )]
    allow_outside_root: bool,
    /// Host whose images at http(s) addresses are fetched: HOST, or HOST:PORT for another port than 80 and 443; may be
    /// given several times [default: none]
    #[arg(
        long,
        value_name = "HOST",
        value_delimiter = ',',
        env = "SEEWARD_SERVE_IMAGE_HOST"
    )]
    image_host: Vec<Host>,
    /// Let these hosts be this machine or in private networks
    #[arg(
        long,
        requires = "image_host",
        env = "SEEWARD_SERVE_IMAGE_HOST_PRIVATE"
    )]
    image_host_private: bool,
    /// PEM file of root certificates for https, in place of Mozilla's
    #[arg(
        long,
        value_name = "FILE",
        requires = "image_host",
        env = "SEEWARD_SERVE_IMAGE_HOST_CA"
    )]
    image_host_ca: Option<PathBuf>,
    /// Maximum number of pixels of an image
    #[arg(
        long,
        value_name = "N",
        default_value_t = 40_000_000,
        env = "SEEWARD_SERVE_MAX_IMAGE_PIXELS"
    )]
    max_image_pixels: u64,
    /// Memory in bytes for the embeddings of images that may come again; 0 keeps none
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, env = "SEEWARD_SERVE_IMAGE_CACHE")]
    image_cache: u64,
    /// Maximum number of bytes of a body, of an image file and of a fetched image, which has at most 20 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, env = "SEEWARD_SERVE_MAX_BODY")]
    max_body: usize,
    /// Bytes of all bodies in memory; further requests wait unread. As many for images by path or address
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, env = "SEEWARD_SERVE_QUEUE_BYTES")]
    queue_bytes: usize,
    /// Maximum number of requests scored together
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        env = "SEEWARD_SERVE_BATCH_REQUESTS"
    )]
    batch_requests: usize,
    /// Estimated seconds after which a batch takes no more requests
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, env = "SEEWARD_SERVE_BATCH_SECONDS")]
    batch_seconds: Duration,
    /// Seconds that a request waits for bodies that are being read while the engine is idle
    #[arg(long, value_name = "S", default_value = "0.005", value_parser = seconds, env = "SEEWARD_SERVE_BATCH_DELAY")]
    batch_delay: Duration,
    /// Score every request alone: its rewards then do not depend on other requests, not even by rounding
    #[arg(long, conflicts_with = "batch_requests", env = "SEEWARD_SERVE_ISOLATE")]
    isolate: bool,
    /// Maximum number of connections; the limit of open files may lower it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16_384,
        env = "SEEWARD_SERVE_MAX_CONNECTIONS"
    )]
    max_connections: usize,
    /// Seconds after which a request is answered by 504
    #[arg(long, value_name = "S", default_value = "600", value_parser = seconds, env = "SEEWARD_SERVE_REQUEST_TIMEOUT")]
    request_timeout: Duration,
    /// Seconds for the headers of a request; an idle connection is closed after them too
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds, env = "SEEWARD_SERVE_HEADER_TIMEOUT")]
    header_timeout: Duration,
    /// Seconds for a body, plus one for each 64 KiB
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds, env = "SEEWARD_SERVE_BODY_TIMEOUT")]
    body_timeout: Duration,
    /// Seconds between SIGTERM and the end of new connections, for load balancers to see /ready
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, env = "SEEWARD_SERVE_DRAIN_DELAY")]
    drain_delay: Duration,
    /// Seconds of one run of the engine after which /ready is 503
    #[arg(long, value_name = "S", default_value = "300", value_parser = seconds, env = "SEEWARD_SERVE_STALL")]
    stall: Duration,
    /// File of API keys, one a line; requests then need `Authorization: Bearer KEY`
    #[arg(long, value_name = "FILE", env = "SEEWARD_SERVE_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Template of the text that /get_reward and /remote_rm receive: auto, chatml, llama3 or none
    #[arg(
        long,
        value_name = "NAME",
        default_value = "auto",
        env = "SEEWARD_SERVE_POLICY_TEMPLATE"
    )]
    policy_template: PolicyTemplate,
    /// What labels that are text or lists say in /get_reward and /remote_rm: answers or images
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "answers",
        env = "SEEWARD_SERVE_LABELS"
    )]
    labels: Labels,
    /// Reward of a sample that cannot be scored, in /get_reward and /remote_rm; logged [default: the request is refused]
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        env = "SEEWARD_SERVE_ON_ERROR_REWARD"
    )]
    on_error_reward: Option<f32>,
    /// Be ready without scoring the bundle's probes
    #[arg(long, env = "SEEWARD_SERVE_NO_CHECK")]
    no_check: bool,
    /// The model's name in replies [default: the bundle's folder]
    #[arg(long, value_name = "NAME", env = "SEEWARD_SERVE_SERVED_NAME")]
    served_name: Option<String>,
    /// Log lines on stderr
    #[arg(long, value_enum, default_value_t, env = "SEEWARD_SERVE_LOG")]
    log: LogFormat,
}

/// Devices that share the requests.
#[derive(Clone, Debug)]
pub(crate) struct Devices(pub(crate) Vec<Device>);

impl FromStr for Devices {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        Device::list(text).map(Self)
    }
}

/// The meaning of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Labels {
    /// Correct answers, which no reward depends on.
    Answers,
    /// Images.
    Images,
}

/// What the service is to do.
pub(crate) struct Job {
    pub(crate) address: Address,
    pub(crate) limits: Limits,
    pub(crate) bundle: Bundle,
    pub(crate) settings: Settings,
    pub(crate) images: Images,
    pub(crate) keys: Keys,
    pub(crate) log: LogFormat,
}

/// How the model is loaded.
pub(crate) struct Bundle {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) devices: Devices,
    /// But for the device.
    pub(crate) options: Options,
    pub(crate) batches: BatchConfig,
    pub(crate) is_checked: bool,
}

impl Arguments {
    /// # Errors
    /// A missing folder or file, or sizes that contradict each other.
    pub(crate) fn validate(self) -> Result<Job> {
        if self.max_body == 0 || self.max_body > self.queue_bytes {
            let (body, queue) = (self.max_body, self.queue_bytes);
            bail!("--max-body: expected 1 to {queue}, the --queue-bytes, got {body}");
        }
        if let Some(reward) = self.on_error_reward.filter(|reward| !reward.is_finite()) {
            bail!("--on-error-reward: expected a finite number, got {reward}");
        }
        let keys = match &self.api_key_file {
            Some(file) => Keys::read(file)?,
            None => Keys::default(),
        };
        Ok(Job {
            bundle: self.bundle(),
            settings: self.settings(),
            limits: Limits {
                connections: self.max_connections,
                header_timeout: self.header_timeout,
                drain_delay: self.drain_delay,
            },
            images: Images {
                remote: Remote::new(RemoteOptions {
                    hosts: self.image_host,
                    is_private: self.image_host_private,
                    ca: self.image_host_ca.as_deref(),
                    max_bytes: self.max_body as u64,
                })?,
                root: ImageRoot::open(self.image_root, self.allow_outside_root)?,
                max_bytes: self.max_body as u64,
                budget: budget(self.queue_bytes),
            },
            address: self.listen,
            log: self.log,
            keys,
        })
    }

    fn bundle(&self) -> Bundle {
        let folder = self.model.file_name().unwrap_or(self.model.as_os_str());
        let name = || folder.to_string_lossy().into_owned();
        let requests = if self.isolate { 1 } else { self.batch_requests };
        Bundle {
            folder: self.model.clone(),
            name: self.served_name.clone().unwrap_or_else(name),
            devices: self.device.clone(),
            options: self.options(),
            // Admission bounds the bytes of the queue.
            batches: BatchConfig::default()
                .max_batch_size(requests)
                .max_batch_time(self.batch_seconds)
                .max_delay(self.batch_delay)
                .queue_bytes(usize::MAX),
            is_checked: !self.no_check,
        }
    }

    fn options(&self) -> Options {
        let options = Options::default()
            .threads(self.threads)
            .batch_tokens(self.batch_tokens)
            .max_image_pixels(self.max_image_pixels)
            .image_cache_bytes(self.image_cache)
            .gpu_memory_limit(self.gpu_memory_limit)
            .input(match (self.text_only, self.image_only) {
                (true, _) => InputMode::TextOnly,
                (_, true) => InputMode::ImageOnly,
                _ => InputMode::Full,
            });
        match &self.cache_dir {
            Some(folder) => options.cache_dir(folder),
            None => options,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            max_body: self.max_body,
            queue_bytes: self.queue_bytes,
            request_timeout: self.request_timeout,
            body_timeout: self.body_timeout,
            stall: self.stall,
            context: Context {
                policy_template: self.policy_template,
                labels_are_images: self.labels == Labels::Images,
                on_error: self.on_error_reward,
                query: String::new(),
            },
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("expected seconds, got {text}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Job> {
        let arguments = arguments.split_whitespace();
        Arguments::try_parse_from([PROGRAM].into_iter().chain(arguments))?.validate()
    }

    #[test]
    fn a_model_is_enough() {
        let job = parse("--model bundles/mine").unwrap();
        assert_eq!(job.bundle.name, "mine");
        assert_eq!(job.address.to_string(), "127.0.0.1:8080");
        assert!(job.bundle.is_checked && job.keys.is_open());
        assert_eq!(job.bundle.batches.max_batch_size, 64);
        let job = parse("--model b --isolate --batch-seconds 0.5 --served-name m").unwrap();
        assert_eq!(job.bundle.batches.max_batch_size, 1);
        assert_eq!(
            job.bundle.batches.max_batch_time,
            Duration::from_millis(500)
        );
        assert_eq!(job.bundle.name, "m");
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, expected) in [
            ("--model b --text-only --image-only", "cannot be used with"),
            (
                "--model b --isolate --batch-requests 4",
                "cannot be used with",
            ),
            ("--model b --allow-outside-root", "--image-root"),
            (
                "--model b --max-body 9 --queue-bytes 8",
                "--max-body: expected 1 to 8",
            ),
            (
                "--model b --on-error-reward nan",
                "expected a finite number",
            ),
            ("--model b --device gpu", "expected cpu, cuda[:N]"),
            ("--model b --batch-delay x", "expected seconds"),
            ("--model b --listen 80", "expected HOST:PORT"),
            ("--model b --image-root no/such", "--image-root no/such"),
        ] {
            let error = parse(arguments).err().unwrap();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
