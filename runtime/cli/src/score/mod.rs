//! `seeward-score`: scores the responses of a JSONL file's rows, window by window.
//!
//! Windows are prepared and written beside the engine's runs. A window of rows is scored together; its lines and errors,
//! with those of others that were scored within a tenth of a second, are appended and synced, and then the progress file
//! is replaced. So a run that was cut off goes on from a whole window, and what it writes is byte for byte what
//! an uninterrupted run does. Ctrl-C and SIGTERM cut it off behind the window that is being scored.

mod arguments;
mod check;
mod input;
mod journal;
mod pipeline;
mod stats;
mod window;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::ProgressBar;
use seeward_runtime::{Device, RewardModel};

use crate::stop::{Signal, Stop};
use crate::terminal::{self, Ending};
pub(crate) use arguments::Job;
use arguments::{Arguments, Task};
use input::{Input, Position};
pub(crate) use journal::errors_path;
use journal::{Identity, Journal};
use pipeline::Pipeline;
pub(crate) use stats::Tally;
use window::Reader;

const PROGRAM: &str = "seeward-score";

/// Input rows that are scored together. Part of what decides the bytes of the output: batches do not cross windows.
const WINDOW_ROWS: usize = 32;

/// The program.
pub fn main() -> ExitCode {
    terminal::exit(PROGRAM, run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<Ending> {
    match arguments.validate()? {
        Task::Check(check) => check::check(&check),
        Task::Score(job) => score(&job),
    }
}

fn score(job: &Job) -> Result<Ending> {
    let models = load(job)?;
    let stop = Stop::listen().context("signals")?;
    let run = score_file(job, &models, &stop)?;
    if let Some(path) = &job.stats {
        stats::write(path, &run.tally, &models)?;
    }
    report(job, &run.tally, run.failed_rows);
    if let Some(signal) = run.stopped {
        say_how_to_go_on(job, signal);
        return Ok(Ending::Stopped(signal));
    }
    Ok(match run.failed_rows {
        0 => Ending::Complete,
        _ => Ending::SomeRowsFailed,
    })
}

/// The bundle on every device.
fn load(job: &Job) -> Result<Vec<RewardModel>> {
    let load = |&device: &Device| {
        let options = job.options.clone().device(device);
        let model = RewardModel::load(&job.model, options);
        let model = model.with_context(|| format!("bundle {}", job.model.display()))?;
        terminal::say_fallback_nodes(PROGRAM, &model);
        Ok(model)
    };
    job.devices.iter().map(load).collect()
}

/// What scoring a file gave.
pub(crate) struct Run {
    /// What this run did.
    pub(crate) tally: Tally,
    /// Rows that failed in this run and the earlier ones that it goes on from.
    pub(crate) failed_rows: u64,
    /// The signal that cut it off.
    pub(crate) stopped: Option<Signal>,
}

/// Scores the job's file with the bundle on one device or several of a kind, from where an earlier run stopped.
pub(crate) fn score_file(job: &Job, models: &[RewardModel], stop: &Stop) -> Result<Run> {
    let mut journal = Journal::open(&job.output, Identity::new(job, &models[0])?, job.resume)?;
    let mut input = Input::open(&job.input, journal.position())?;
    let bar = terminal::progress_bar(input.length());
    show(&bar, journal.position(), &Tally::default());
    let pipeline = Pipeline {
        models,
        reader: Reader {
            images: &job.images,
            carried: &job.carried,
        },
        stop,
    };
    let (start, mut tally) = (Instant::now(), Tally::default());
    let stopped = pipeline.run(&mut input, |window, position| {
        journal.append(&window, position)?;
        tally.add(&window, start.elapsed());
        show(&bar, journal.position(), &tally);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(Run {
        stopped: stopped?,
        failed_rows: journal.failed_rows(),
        tally,
    })
}

fn show(bar: &ProgressBar, position: &Position, tally: &Tally) {
    bar.set_position(position.offset);
    bar.set_message(tally.to_string());
}

fn report(job: &Job, tally: &Tally, failed_rows: u64) {
    terminal::say(PROGRAM, tally);
    if failed_rows > 0 {
        let errors = journal::errors_path(&job.output);
        let message = format!("{failed_rows} rows failed: {}", errors.display());
        terminal::say(PROGRAM, message);
    }
}

fn say_how_to_go_on(job: &Job, signal: Signal) {
    let command = match job.resume {
        true => "the same command",
        false => "the same command without --no-resume",
    };
    let message = format!("stopped by {signal}: {command} goes on from here");
    terminal::say(PROGRAM, message);
}
