//! `seeward-score`: scores the responses of a JSONL file's rows, window by window.
//!
//! Windows are prepared and written while the engine runs. The rows of a window are scored together. Its lines and
//! errors, with those of other windows scored within a tenth of a second, are appended and synced, and then the progress
//! file is replaced. So an interrupted run resumes from a whole window, and writes byte for byte what an uninterrupted
//! run writes. Ctrl-C and SIGTERM interrupt it after the window that is being scored.

mod arguments;
mod check;
mod correct;
mod identity;
mod input;
mod job;
mod merge;
mod pipeline;
mod shard;
mod sink;
mod stats;
mod window;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Once;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use seeward_models::process::{SecondSignal, Signal, Stop};
use seeward_models::rows::RowStream;
use seeward_runtime::{Device, RewardModel};

use crate::bundle;
use crate::journal;
use crate::terminal::{self, Ending};
use arguments::{Arguments, PROGRAM, Task};
use identity::Identity;
use input::{Input, Position};
pub(crate) use job::Job;
use pipeline::Pipeline;
use sink::Sink;
pub(crate) use stats::Tally;
use window::Reader;

/// Runs the program.
pub fn main() -> ExitCode {
    main_of(env::args_os())
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main_of(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    terminal::exit(PROGRAM, run(seeward_manual::parse_from(arguments)))
}

fn run(arguments: Arguments) -> Result<Ending> {
    match arguments.validate()? {
        Task::Check(check) => check::check(&check),
        Task::Correct(correction) => correct::correct(&correction),
        Task::Merge(job) => merge::merge(&job),
        Task::Score(job) => score(&job),
    }
}

fn score(job: &Job) -> Result<Ending> {
    let models = load(job)?;
    let stop = Stop::listen(SecondSignal::Exit).context("signals")?;
    let run = score_file(job, &models, &stop)?;
    if let Some(path) = &job.stats {
        stats::write(path, &run.tally, &models)?;
    }
    report(job, &run.tally, run.failed_rows);
    if let Some(signal) = run.stopped {
        log_how_to_resume(job, signal);
        return Ok(Ending::Stopped(signal));
    }
    Ok(match run.failed_rows {
        0 => Ending::Complete,
        _ => Ending::SomeRowsFailed,
    })
}

/// Loads the bundle on every device.
fn load(job: &Job) -> Result<Vec<RewardModel>> {
    let load = |&device: &Device| bundle::load(PROGRAM, &job.model, job.engine.on(device));
    let models = job.devices.iter().map(load).collect::<Result<Vec<_>>>()?;
    bundle::log_offset(PROGRAM, &models[0]);
    bundle::log_errors(PROGRAM, &models[0]);
    Ok(models)
}

/// The outcome of scoring a file.
pub(crate) struct Run {
    /// Counts of this run alone.
    pub(crate) tally: Tally,
    /// Rows that failed in this run and in those that it resumed.
    pub(crate) failed_rows: u64,
    /// The signal that interrupted it.
    pub(crate) stopped: Option<Signal>,
}

/// Scores the job's file with the bundle on one or several devices of a kind, resuming an earlier run.
///
/// # Errors
/// The journal of another run, a broken file, or a failing engine.
pub(crate) fn score_file(job: &Job, models: &[RewardModel], stop: &Stop) -> Result<Run> {
    // Before any file is written.
    let part = job.shard.map(|shard| shard.part(&job.input)).transpose()?;
    let rows = RowStream::open(&job.input)?;
    let bounds = part.as_ref().map(|part| &part.bounds);
    let identity = Identity::new(job, &models[0], bounds)?;
    let (end, start) = (bounds.map(|bounds| bounds.end), part.map(|part| part.begin));
    let start = start.unwrap_or_else(Position::start);
    let mut sink = Sink::open(&job.output, identity, start, job.resume)?;
    let mut input = Input::at(&job.input, rows, sink.position())?.until(end);
    let bar = terminal::progress_bar(input.length());
    show(&bar, sink.position(), &Tally::default());
    let pipeline = Pipeline {
        models,
        reader: Reader {
            images: &job.images,
            carried: &job.carried,
            tag_notice: Once::new(),
        },
        stop,
    };
    let (start, mut tally) = (Instant::now(), Tally::default());
    let stopped = pipeline.run(&mut input, |window, position| {
        sink.append(&window, position)?;
        tally.add(&window, start.elapsed());
        show(&bar, sink.position(), &tally);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(Run {
        stopped: stopped?,
        failed_rows: sink.failed_rows(),
        tally,
    })
}

fn show(bar: &ProgressBar, position: &Position, tally: &Tally) {
    bar.set_position(position.offset);
    bar.set_message(tally.to_string());
}

fn report(job: &Job, tally: &Tally, failed_rows: u64) {
    terminal::log(PROGRAM, tally);
    let failed = format!("{failed_rows} rows failed");
    if failed_rows > 0 && job::is_stream(&job.output) {
        terminal::log(PROGRAM, failed);
    } else if failed_rows > 0 {
        let errors = journal::errors_path(&job.output);
        terminal::log(PROGRAM, format_args!("{failed}: {}", errors.display()));
    }
}

fn log_how_to_resume(job: &Job, signal: Signal) {
    let advice = match job.resume {
        _ if job::is_stream(&job.output) => "no run can resume, as --output is no file",
        true => "rerun the same command to resume",
        false => "rerun the same command without --no-resume to resume",
    };
    terminal::log(PROGRAM, format_args!("interrupted by {signal}: {advice}"));
}
