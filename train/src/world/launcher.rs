//! Starts the processes of a run on one machine, without any other program. It does nothing else: the processes meet by
//! the same environment variables that torchrun sets.

use std::env;
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use seeward_models::process::{SecondSignal, Stop};

use crate::world::environment::Environment;

/// The time that processes have to end by themselves after one of them has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Linux gives clients ports from 32768.
const PORTS: Range<u16> = 20_000..32_000;
/// The time between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(50);
/// Exit status of a run that failed.
const FAILED: u8 = 2;

/// The devices of the processes to start, one each: those that `device` lists, or `device` for each of `processes`. `None`
/// if this process trains itself.
///
/// # Errors
/// One GPU for several processes, two different numbers of processes, or a launcher has started this process.
pub fn devices(
    device: &str,
    processes: Option<usize>,
    environment: &Environment,
) -> Result<Option<Vec<String>>> {
    let listed: Vec<String> = device.split(',').map(str::to_owned).collect();
    let count = processes.unwrap_or(listed.len());
    ensure!(count > 0, "--processes: expected at least 1, got 0");
    if count == 1 && listed.len() == 1 {
        return Ok(None);
    }
    let launched = environment.ranks.size;
    ensure!(
        launched == 1,
        "--device {device} with {count} processes: WORLD_SIZE={launched} is set, so a launcher has started them: remove one"
    );
    match &listed[..] {
        [one] if one == "cpu" => Ok(Some(vec![one.clone(); count])),
        [one] if one == "cuda" => Ok(Some((0..count).map(|gpu| format!("cuda:{gpu}")).collect())),
        several if several.len() == count && several.iter().all(|d| d.starts_with("cuda:")) => {
            Ok(Some(listed))
        }
        _ => bail!(
            "--device {device} with {count} processes: expected cpu, cuda, or a GPU for each as cuda:0,cuda:1"
        ),
    }
}

/// Starts a process of this program with `arguments` for each device and waits for all. Returns the exit status: of the
/// first that failed, if any did. SIGTERM is passed on; Ctrl-C reaches all processes of a terminal by itself.
///
/// # Errors
/// A process cannot be started.
pub fn launch(devices: &[String], arguments: &[String]) -> Result<u8> {
    let stop = Stop::listen(SecondSignal::Exit)?;
    let program = env::current_exe().context("this program")?;
    let port = free_port()?;
    let mut processes = Processes(Vec::new());
    for (rank, device) in devices.iter().enumerate() {
        let mut command = command(&program, device, arguments)?;
        let command = command
            .envs([("RANK", rank), ("LOCAL_RANK", rank)].map(|(name, n)| (name, n.to_string())))
            .envs(["WORLD_SIZE", "LOCAL_WORLD_SIZE"].map(|name| (name, devices.len().to_string())))
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string());
        if env::var_os("OMP_NUM_THREADS").is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            command.env(
                "OMP_NUM_THREADS",
                (cores / devices.len()).max(1).to_string(),
            );
        }
        let process = command.spawn().context("starting a process")?;
        processes.0.push(process);
    }
    processes.wait(&stop)
}

fn command(program: &PathBuf, device: &str, arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments);
    match device.strip_prefix("cuda:") {
        None => command.args(["--device", device]),
        // Each process sees its own GPU only.
        Some(index) => command
            .args(["--device", "cuda"])
            .env(VISIBLE, visible(index)?),
    };
    Ok(command)
}

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The name of GPU `index` among those that this process sees.
fn visible(index: &str) -> Result<String> {
    let number: usize = index
        .parse()
        .with_context(|| format!("--device cuda:{index}: expected cuda:N"))?;
    let Ok(seen) = env::var(VISIBLE) else {
        return Ok(number.to_string());
    };
    let named = seen.split(',').nth(number).map(str::to_owned);
    named.with_context(|| format!("--device cuda:{index}: {VISIBLE}={seen} has no such GPU"))
}

/// A port that nothing listens on, below those that the system gives to clients: a client that came before its server
/// could get the port itself, and be connected to itself.
///
/// # Errors
/// All of them are in use.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(31);
    for _ in PORTS {
        let turn = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (turn % u32::from(PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free from {} to {}", PORTS.start, PORTS.end - 1)
}

/// The started processes; they are killed when it is dropped.
struct Processes(Vec<Child>);

impl Processes {
    fn wait(&mut self, stop: &Stop) -> Result<u8> {
        let (mut failed, mut is_passed_on) = (None, false);
        loop {
            let ended: Vec<_> = self.0.iter_mut().map(Child::try_wait).collect();
            let ended: Vec<Option<ExitStatus>> =
                ended.into_iter().collect::<std::io::Result<_>>()?;
            let failure = ended.iter().flatten().find(|status| !status.success());
            if let (Some(status), None) = (failure, failed) {
                failed = Some((code(*status), Instant::now()));
            }
            let is_late = failed.is_some_and(|(_, since)| since.elapsed() > PATIENCE);
            if ended.iter().all(Option::is_some) || is_late {
                return Ok(failed.map_or(0, |(code, _)| code));
            }
            if !is_passed_on && is_terminated(stop) {
                self.0.iter().try_for_each(terminate)?;
                is_passed_on = true;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // Fails if it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn is_terminated(stop: &Stop) -> bool {
    let number = stop.signal().map(|signal| signal.number());
    number == Some(Signal::TERM.as_raw())
}

fn terminate(process: &Child) -> Result<()> {
    match kill_process(Pid::from_child(process), Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("passing SIGTERM on"),
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_a_device() {
        let alone = Environment::default();
        let of = |device, processes| devices(device, processes, &alone);
        for (device, processes) in [("cpu", None), ("cuda:3", None), ("cuda", Some(1))] {
            assert_eq!(of(device, processes).unwrap(), None);
        }
        let several = |device, processes| of(device, processes).unwrap().unwrap();
        assert_eq!(several("cpu", Some(3)), ["cpu"; 3]);
        assert_eq!(several("cuda", Some(2)), ["cuda:0", "cuda:1"]);
        assert_eq!(several("cuda:2,cuda:0", None), ["cuda:2", "cuda:0"]);
        for (device, processes) in [
            ("cuda:1", Some(2)),
            ("cuda:0,cuda:1", Some(3)),
            ("cpu,cuda:0", None),
        ] {
            let error = of(device, processes).unwrap_err().to_string();
            assert!(
                error.contains("expected cpu, cuda, or a GPU for each"),
                "{error}"
            );
        }
        let mut launched = alone.clone();
        launched.ranks.size = 2;
        let error = devices("cpu", Some(2), &launched).unwrap_err().to_string();
        assert!(error.contains("WORLD_SIZE=2 is set"), "{error}");
    }
}
