//! Starts several processes of one run, as torchrun, SLURM or a shell loop does: by environment variables.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Run, message};

/// The processes of a run, in the order of ranks; those that still run are killed when it is dropped.
pub(crate) struct Processes(pub(crate) Vec<Child>);

/// The time that a run of a few steps takes at most, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    seeward_train::world::launcher::free_port().unwrap()
}

impl Run {
    /// The command of one rank.
    pub(crate) fn rank(&self, rank: usize, size: usize, port: u16) -> Command {
        let mut command = self.program();
        command
            .env("RANK", rank.to_string())
            .env("WORLD_SIZE", size.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `size` processes, each with `arguments`.
    pub(crate) fn launch(&self, size: usize, arguments: &[&str]) -> Processes {
        let port = free_port();
        let start = |rank| {
            let mut command = self.rank(rank, size, port);
            command.args(arguments).spawn().unwrap()
        };
        Processes((0..size).map(start).collect())
    }

    /// Trains with `size` processes, which must succeed.
    pub(crate) fn succeed_with(self, size: usize, arguments: &[&str]) -> Self {
        for output in self.launch(size, arguments).outputs() {
            assert!(output.status.success(), "{}", message(&output));
        }
        self
    }
}

impl Processes {
    /// Waits for all of them. Returns their outputs in the order of ranks.
    pub(crate) fn outputs(mut self) -> Vec<Output> {
        self.wait(PATIENCE);
        let children = std::mem::take(&mut self.0).into_iter();
        children
            .map(|child| child.wait_with_output().unwrap())
            .collect()
    }

    /// Waits until all have ended, which must not take longer than `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) {
        let started = Instant::now();
        while self
            .0
            .iter_mut()
            .any(|child| child.try_wait().unwrap().is_none())
        {
            assert!(started.elapsed() < patience, "a process still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
