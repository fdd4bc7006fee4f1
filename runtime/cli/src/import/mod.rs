//! `seeward-import`: Parquet files of preferences, as Hugging Face hands them out, become `rows.jsonl` and `images/`.
//!
//! Rows are converted row group by row group: images go to files that are named by their content, so that each is stored
//! once, then the rows and errors of the group are appended, then the progress is saved. An interrupted run resumes from
//! a whole row group and writes the same bytes as an uninterrupted one.

mod arguments;
mod images;
mod pages;
mod progress;
mod set;
mod shard;
mod values;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use seeward_models::process::{SecondSignal, Signal, Stop};
use seeward_models::sample::{CarriedKeys, PreferenceReader};
use serde_json::{Map, Value, json};

use crate::image_folder::ImageFolder;
use crate::terminal::{self, Ending};
use arguments::{Arguments, Job, PROGRAM};
use images::ImageStore;
use progress::{Identity, Position};
use set::Set;
use shard::Shard;
use values::Converter;

type Journal = crate::journal::Journal<Position, Identity>;

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
    let shards = job.input.iter().map(|path| Shard::open(path));
    let shards = shards.collect::<Result<Vec<_>>>()?;
    let set = job.set.map_or_else(|| recognised(&shards), Ok)?;
    match job.dry_run {
        true => describe(&shards, set).map(|()| Ending::Complete),
        false => import(&job, &shards, set),
    }
}

/// The set whose columns the files have.
///
/// # Errors
/// They have those of different sets.
fn recognised(shards: &[Shard]) -> Result<&'static Set> {
    let sets = shards.iter().map(|shard| Set::of(&shard.columns()));
    let sets: Vec<&Set> = sets.collect();
    let other = sets.iter().position(|set| set.name != sets[0].name);
    match other {
        None => Ok(sets[0]),
        Some(index) => bail!(
            "{}: expected a file of set {}, as the first, got {}: import it into another folder, or name the set by --format",
            shards[index].path().display(),
            sets[0].name,
            sets[index].name
        ),
    }
}

/// Prints the schema of each file, and the set that it is taken for.
fn describe(shards: &[Shard], set: &Set) -> Result<()> {
    for shard in shards {
        terminal::print(&shard.to_string())?;
    }
    terminal::print(&format!("{set}\n"))
}

fn import(job: &Job, shards: &[Shard], set: &'static Set) -> Result<Ending> {
    let stop = Stop::listen(SecondSignal::Exit).context("signals")?;
    let output = job.output.join("rows.jsonl");
    let identity = Identity::new(job, shards, set)?;
    let mut journal = Journal::open(&output, identity, Position::default(), job.resume)?;
    let mut import = Import {
        set,
        reader: set.reader()?,
        images: ImageStore::open(&job.output)?,
    };
    let first = journal.position().clone();
    for (index, shard) in shards.iter().enumerate().skip(first.file) {
        let begin = if index == first.file { first.group } else { 0 };
        let folder = job.images(shard.path())?;
        for group in begin..shard.groups() {
            if let Some(signal) = stop.signal() {
                return Ok(stopped(signal));
            }
            let rows = import.group(shard, group, &folder)?;
            import.images.sync()?;
            let position = Position {
                file: index,
                group: group + 1,
                rows: journal.position().rows + rows.count,
            };
            journal.append([&rows.lines, &rows.errors], rows.failed, position)?;
        }
    }
    Ok(report(&journal, set, &output))
}

fn stopped(signal: Signal) -> Ending {
    let advice = "rerun the same command to resume";
    terminal::log(PROGRAM, format_args!("interrupted by {signal}: {advice}"));
    Ending::Stopped(signal)
}

fn report(journal: &Journal, set: &Set, output: &std::path::Path) -> Ending {
    let (rows, failed) = (journal.position().rows, journal.failed_rows());
    let place = output.display();
    terminal::log(
        PROGRAM,
        format_args!("{place}: {} of {rows} rows; {set}", rows - failed),
    );
    match failed {
        0 => Ending::Complete,
        _ => {
            let errors = crate::journal::errors_path(output);
            terminal::log(
                PROGRAM,
                format_args!("{failed} rows failed: {}", errors.display()),
            );
            Ending::SomeRowsFailed
        }
    }
}

/// The conversion of rows.
struct Import {
    set: &'static Set,
    /// A reader that each row must satisfy; `None` for a set that is not known.
    reader: Option<PreferenceReader>,
    images: ImageStore,
}

/// The lines of a row group.
#[derive(Default)]
struct Rows {
    lines: String,
    errors: String,
    count: u64,
    failed: u64,
}

impl Import {
    /// Converts a row group.
    ///
    /// # Errors
    /// The group cannot be read, or an image cannot be written. Errors of single rows are lines of the result.
    fn group(&mut self, shard: &Shard, group: usize, folder: &ImageFolder) -> Result<Rows> {
        let mut rows = Rows::default();
        let first = shard.first_row(group);
        shard.rows(group, |row| {
            rows.count += 1;
            match self.row(folder, row)? {
                Ok(line) => rows.lines += &format!("{line}\n"),
                Err(error) => {
                    rows.failed += 1;
                    let (file, row) = (shard.path().display().to_string(), first + rows.count);
                    rows.errors +=
                        &format!("{}\n", json!({"file": file, "row": row, "error": error}));
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// The line of a row, or what is wrong with it.
    fn row(
        &mut self,
        folder: &ImageFolder,
        row: parquet::record::Row,
    ) -> Result<Result<String, String>> {
        let mut converter = Converter {
            images: &mut self.images,
            folder,
            labels: self.set.labels,
        };
        let converted = match converter.row(row)? {
            Ok(row) => (self.set.convert)(row),
            Err(problem) => Err(problem),
        };
        Ok(converted.and_then(|row| self.line(row)))
    }

    fn line(&self, row: Map<String, Value>) -> Result<String, String> {
        let line = Value::Object(row).to_string();
        if let Some(reader) = &self.reader {
            reader.read(&line).map_err(|e| e.to_string())?;
        }
        Ok(line)
    }
}

impl Set {
    /// A reader of the rows that the set becomes.
    fn reader(&self) -> Result<Option<PreferenceReader>> {
        let named = |name: &&str| -> Result<PreferenceReader> {
            Ok(PreferenceReader::named(
                name.parse()?,
                CarriedKeys::default(),
            ))
        };
        self.format.as_ref().map(named).transpose()
    }
}
