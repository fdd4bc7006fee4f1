//! `seeward-evaluate`: how good a reward model is on preferences that are known.
//!
//! The files of all formats become scoring rows (`set`), which every bundle scores (`scoring`); what the rewards
//! say is measured ([`metrics`], `report`) and shown (`page`).

mod arguments;
mod disagreement;
pub mod metrics;
mod page;
pub mod plot;
mod report;
mod scoring;
mod set;
mod table;
mod training;

use std::fmt::Display;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use seeward_models::atomic::replace_file;
use seeward_runtime::RewardModel;

use crate::stop::{Signal, Stop};
use crate::terminal::{self, Ending};
use arguments::{Arguments, Job};
use report::Report;
use scoring::{Rewards, Scorer};
use set::Set;
use training::Training;

const PROGRAM: &str = "seeward-evaluate";
/// The parts that a bundle can have; files and JSON name them so.
const MODEL: &str = "model";
const TEXT_ONLY: &str = "text_only";
const COMPARE: &str = "compare";
/// The rule that the longer response is the better one: the baseline that needs no model.
const LENGTH_ONLY: &str = "length_only";

/// The program.
pub fn main() -> ExitCode {
    terminal::exit(PROGRAM, run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<Ending> {
    let job = arguments.validate()?;
    let training = job.metrics.as_deref().map(Training::read).transpose()?;
    // Without a folder there is nothing to go on from.
    let scratch = tempfile::tempdir().context("a folder for the scores")?;
    let folder = job
        .output
        .as_deref()
        .unwrap_or(scratch.path())
        .join("scores");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let sets = read_sets(&job, &folder)?;
    let scorers = scorers(&job);
    let stop = Stop::listen().context("signals")?;
    let mut rewards = Vec::new();
    for scorer in &scorers {
        match scorer.score(&job, &sets, &folder, &stop)? {
            ControlFlow::Continue(scored) => rewards.push(scored),
            ControlFlow::Break(signal) => return Ok(stopped(&job, signal)),
        }
    }
    tell_failed_rows(&sets, &rewards);
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
    let further = match (&job.output, job.resume) {
        (None, _) => "without --output there is nothing to go on from",
        (_, true) => "the same command goes on from here",
        (_, false) => "the same command without --no-resume goes on from here",
    };
    say(format_args!("stopped by {signal}: {further}"));
    Ending::Stopped(signal)
}

fn read_sets(job: &Job, folder: &Path) -> Result<Vec<Set>> {
    let read = |set| {
        Set::read(
            set,
            job.format,
            &job.carried,
            &folder.join(format!("{}.rows.jsonl", set.name)),
        )
    };
    let sets = job.sets.iter().map(read).collect::<Result<Vec<_>>>()?;
    for set in &sets {
        if let Some(overlap) = set.overlap() {
            say(format_args!("{}: {overlap}", set.path.display()));
        }
    }
    Ok(sets)
}

fn scorers(job: &Job) -> Vec<Scorer> {
    let bundles = [
        (MODEL, Some(&job.model), job.options.clone()),
        (
            TEXT_ONLY,
            job.text_only_model.as_ref(),
            job.text_only_options(),
        ),
        (COMPARE, job.compare.as_ref(), job.options.clone()),
    ];
    let scorer = |(role, bundle, options): (_, Option<&std::path::PathBuf>, _)| {
        let bundle = bundle?.clone();
        Some(Scorer {
            role,
            bundle,
            options,
        })
    };
    bundles.into_iter().filter_map(scorer).collect()
}

/// Every row that could not be read, or not be scored by all models.
fn tell_failed_rows(sets: &[Set], rewards: &[Vec<Rewards>]) {
    for (index, set) in sets.iter().enumerate() {
        for (line, error) in set.failures(rewards.iter().map(|sets| &sets[index])) {
            say(format_args!("{}:{line}: {error}", set.path.display()));
        }
    }
}

fn write(folder: &Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    replace_file(&folder.join("report.json"), (json + "\n").as_bytes())?;
    Ok(replace_file(
        &folder.join("report.html"),
        page::page(report).as_bytes(),
    )?)
}

fn say(message: impl Display) {
    terminal::say(PROGRAM, message);
}

fn say_fallback_nodes(model: &RewardModel) {
    terminal::say_fallback_nodes(PROGRAM, model);
}
