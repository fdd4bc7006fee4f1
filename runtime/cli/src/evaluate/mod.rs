//! `seeward-evaluate`: the accuracy of a reward model on known preferences.
//!
//! Files of all formats become scoring rows (`dataset`), which every bundle scores (`scoring`). [`metrics`] are computed
//! from the rewards, collected (`report`) and rendered (`page`, `table`).

mod arguments;
mod dataset;
mod disagreement;
mod judged;
pub mod metrics;
mod page;
pub mod plot;
mod report;
mod rewards;
mod roles;
mod scoring;
mod table;
mod training;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use seeward_models::atomic::replace_file;
use seeward_models::process::{SecondSignal, Signal, Stop};
use seeward_models::rows;

use crate::terminal::{self, Ending};
use arguments::{Arguments, Job, PROGRAM, PreferenceFile};
use dataset::Dataset;
use report::Report;
use rewards::Rewards;
use roles::{COMPARE, MODEL, TEXT_ONLY};
use scoring::Scorer;
use training::Training;

/// Runs the program.
pub fn main() -> ExitCode {
    main_of(env::args_os())
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main_of(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    terminal::exit(PROGRAM, run(seeward_manual::parse_from(arguments)))
}

fn run(arguments: Arguments) -> Result<Ending> {
    let job = arguments.validate()?;
    let training = job.metrics.as_deref().map(Training::read).transpose()?;
    // Without --output the scores are temporary.
    let scratch = tempfile::tempdir().context("a folder for the scores")?;
    let folder = job
        .output
        .as_deref()
        .unwrap_or(scratch.path())
        .join("scores");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let sets = read_sets(&job, &folder)?;
    let scorers = scorers(&job);
    let stop = Stop::listen(SecondSignal::Exit).context("signals")?;
    let mut rewards = Vec::new();
    for scorer in &scorers {
        match scorer.score(&job, &sets, &folder, &stop)? {
            ControlFlow::Continue(scored) => rewards.push(scored),
            ControlFlow::Break(signal) => return Ok(stopped(&job, signal)),
        }
    }
    log_failed_rows(&sets, &rewards);
    let report = Report::new(&job, &scorers, &sets, &rewards, training)?;
    if let Some(folder) = &job.output {
        write(folder, &report)?;
    }
    terminal::print(&table::table(&report))?;
    Ok(match report.failed_rows() {
        0 => Ending::Complete,
        _ => Ending::SomeRowsFailed,
    })
}

fn stopped(job: &Job, signal: Signal) -> Ending {
    let hint = match (&job.output, job.resume) {
        (None, _) => "without --output the scores are lost",
        (_, true) => "rerun the same command to resume",
        (_, false) => "rerun the same command without --no-resume to resume",
    };
    terminal::log(PROGRAM, format_args!("interrupted by {signal}: {hint}"));
    Ending::Stopped(signal)
}

fn read_sets(job: &Job, folder: &Path) -> Result<Vec<Dataset>> {
    let read = |file: &PreferenceFile| {
        let requests = folder.join(format!("{}.rows.jsonl", file.name));
        // The rows are read more than once.
        let unpacked = folder.join(format!("{}.unpacked", file.name));
        let source = rows::seekable(&file.path, &unpacked)?;
        Dataset::read(file, source, job.reader(source)?, &requests)
    };
    let sets = job.files.iter().map(read).collect::<Result<Vec<_>>>()?;
    for set in &sets {
        if let Some(overlap) = set.overlap() {
            terminal::log(PROGRAM, format_args!("{}: {overlap}", set.path.display()));
        }
    }
    Ok(sets)
}

fn scorers(job: &Job) -> Vec<Scorer> {
    let bundles = [
        (MODEL, Some(&job.model), job.engine.clone()),
        (
            TEXT_ONLY,
            job.text_only_model.as_ref(),
            job.text_only_engine(),
        ),
        (COMPARE, job.compare.as_ref(), job.engine.clone()),
    ];
    let scorer = |(role, bundle, engine): (_, Option<&PathBuf>, _)| {
        Some(Scorer {
            role,
            bundle: bundle?.clone(),
            engine,
        })
    };
    bundles.into_iter().filter_map(scorer).collect()
}

/// Logs every row that could not be read, or that a model could not score.
fn log_failed_rows(sets: &[Dataset], rewards: &[Vec<Rewards>]) {
    for (index, set) in sets.iter().enumerate() {
        for (line, error) in set.failures(rewards.iter().map(|sets| &sets[index])) {
            let place = set.path.display();
            terminal::log(PROGRAM, format_args!("{place}:{line}: {error}"));
        }
    }
}

fn write(folder: &Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    replace_file(&folder.join("report.json"), (json + "\n").as_bytes())?;
    Ok(replace_file(
        &folder.join("report.html"),
        page::page(report)?.as_bytes(),
    )?)
}
