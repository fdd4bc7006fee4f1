//! The program: bind, load, prove, serve, drain.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use seeward_models::probe::Verdict;
use seeward_runtime::{Batcher, Device, RewardModel};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::{Arguments, Bundle, Job, PROGRAM};
use crate::listen::Server;
use crate::log;
use crate::router::router;
use crate::state::{Loaded, Service};

/// The exit status of rewards that are not those of training.
const NOT_AS_TRAINED: u8 = 1;
const FAILED: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    main_of(env::args_os())
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main_of(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = seeward_manual::parse_from::<Arguments>(arguments);
    let status = arguments.validate().and_then(start);
    status.unwrap_or_else(|error| {
        eprintln!("{PROGRAM}: error: {error:#}");
        FAILED.into()
    })
}

fn start(job: Job) -> Result<ExitCode> {
    log::start(job.log);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build().context("threads")?;
    let status = runtime.block_on(run(job));
    // After a second signal work may be left, and nobody waits for it.
    runtime.shutdown_background();
    status
}

async fn run(job: Job) -> Result<ExitCode> {
    let listener = job.address.bind().await?;
    if listener.is_public() && job.keys.is_open() {
        tracing::warn!("other machines may connect, and no key is asked for (--api-key-file)");
    }
    let service = Arc::new(Service::new(job.settings, job.images, job.keys));
    let place = listener.to_string();
    let server = Server::new(listener, router(service.clone()), &job.limits);
    tracing::info!(connections = server.most(), "listening on {place}");
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(stopped));
    let mut signals = Signals::listen()?;
    let loading = tokio::task::spawn_blocking(move || load(&job.bundle));
    let loaded = tokio::select! {
        loaded = loading => loaded.context("loading panicked")??,
        first = signals.next() => return Ok(first.status()),
    };
    let Some(loaded) = loaded else {
        return Ok(NOT_AS_TRAINED.into());
    };
    service.set_model(loaded);
    tracing::info!("ready");
    let first = signals.next().await;
    tracing::info!("{}: accepted requests are still answered", first.name());
    tokio::select! {
        () = drain(&service, &stop, first, job.limits.drain_delay, serving) => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        second = signals.next() => Ok(second.status()),
    }
}

async fn drain(
    service: &Arc<Service>,
    stop: &watch::Sender<bool>,
    signal: Signal,
    delay: std::time::Duration,
    serving: tokio::task::JoinHandle<()>,
) {
    service.health.drain();
    if signal == Signal::Terminate {
        tokio::time::sleep(delay).await;
    }
    // The server may have ended.
    let _ = stop.send(true);
    let _ = serving.await;
    let service = service.clone();
    let _ = tokio::task::spawn_blocking(move || service.close()).await;
}

/// Loads the model on each device and scores its probes there; none if the rewards are not those of training.
fn load(bundle: &Bundle) -> Result<Option<Loaded>> {
    let (mut models, mut found) = (Vec::new(), Vec::new());
    for device in &bundle.devices.0 {
        let model = load_on(*device, bundle)?;
        let Some(probes) = probes(&model, bundle.is_checked)? else {
            return Ok(None);
        };
        models.push(model);
        found.push(probes);
    }
    found.dedup();
    Ok(Some(Loaded {
        batcher: Batcher::of(models.clone(), bundle.batches.clone())?,
        name: bundle.name.clone(),
        probes: found.join("; "),
        models,
    }))
}

fn load_on(device: Device, bundle: &Bundle) -> Result<RewardModel> {
    let model = RewardModel::load(&bundle.folder, bundle.options.clone().device(device));
    let model = model.with_context(|| format!("--model {}", bundle.folder.display()))?;
    for nodes in model.fallback_nodes() {
        tracing::warn!("on another provider than the device's: {nodes}");
    }
    Ok(model)
}

/// What the probes show; none if the rewards are not those of training.
fn probes(model: &RewardModel, is_checked: bool) -> Result<Option<String>> {
    let not_checked = |reason: &str| {
        tracing::warn!("the rewards were not compared with training: {reason}");
        Ok(Some(format!("not checked: {reason}")))
    };
    if !is_checked {
        return not_checked("--no-check");
    }
    if model.bundle().manifest().probes.is_empty() {
        return not_checked("the bundle has no probes");
    }
    if model.input_mode() != model.bundle().manifest().input_mode {
        return not_checked("a part of them is hidden from the model");
    }
    let checked = model.check_probes()?;
    if let Some(error) = &checked.not_kept {
        tracing::warn!("the bundle does not keep its errors: {error}");
    }
    let (count, largest) = (checked.rewards.len(), checked.errors.largest);
    let found = format!("{count} probes, largest difference {largest:.1e}");
    match checked.errors.verdict(checked.tolerance) {
        Verdict::AsTrained => {
            tracing::info!("as trained: {found}");
            Ok(Some(format!("as trained: {found}")))
        }
        Verdict::Undecided(reason) => not_checked(&reason),
        Verdict::NotAsTrained => {
            tracing::error!("the rewards are not those of training: {found}");
            Ok(None)
        }
    }
}

/// A signal that ends the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Interrupt,
    Terminate,
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("signals")?,
            terminate: signal(SignalKind::terminate()).context("signals")?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit status of a death by this signal.
    fn status(self) -> ExitCode {
        match self {
            Self::Interrupt => 130.into(),
            Self::Terminate => 143.into(),
        }
    }
}
