//! `--merge`: joins the outputs of all shards to the files that one run would have written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::arguments::PROGRAM;
use super::identity::Identity;
use super::input::Position;
use super::job::Merge;
use super::shard::Shard;
use crate::journal::{self, Ended};
use crate::terminal::{self, Ending};

type Part = Ended<Position, Identity>;

/// # Errors
/// A shard is missing, incomplete, running, or of another run than the others.
pub(super) fn merge(job: &Merge) -> Result<Ending> {
    let output = &job.output;
    let count = count(output)?;
    let shards = (0..count).map(|index| Shard { index, count });
    let parts = shards.map(|shard| part(output, shard));
    let parts: Vec<Part> = parts.collect::<Result<_>>()?;
    let identity = parts[0].identity().without_shard();
    check(&parts, output)?;
    let failed_rows = Ended::join(output, &parts, identity, job.replace)?;
    let place = output.display();
    terminal::log(PROGRAM, format_args!("{place}: merged from {count} shards"));
    if failed_rows == 0 {
        return Ok(Ending::Complete);
    }
    let errors = journal::errors_path(output);
    terminal::log(
        PROGRAM,
        format_args!("{failed_rows} rows failed: {}", errors.display()),
    );
    Ok(Ending::SomeRowsFailed)
}

/// The number of shards, by the names of the files next to `output`.
fn count(output: &Path) -> Result<u64> {
    let name = output.file_name().context("--output: expected a file")?;
    let start = format!("{}.shard-", name.to_string_lossy());
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut counts = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let numbers = name
            .strip_prefix(&start)
            .and_then(|rest| rest.split_once("-of-"));
        counts.extend(numbers.and_then(|(_, count)| count.parse::<u64>().ok()));
    }
    let mut counts = counts.into_iter();
    match (counts.next(), counts.next()) {
        (Some(count), None) if count > 0 => Ok(count),
        (None, _) => bail!(
            "{}: no shards: expected files {start}I-of-N",
            output.display()
        ),
        (first, second) => bail!(
            "{}: shards of {} and of {}: remove those that are not wanted",
            output.display(),
            first.unwrap_or_default(),
            second.unwrap_or_default()
        ),
    }
}

/// A shard that is complete.
fn part(output: &Path, shard: Shard) -> Result<Part> {
    let file = shard.file(output);
    let cure = format!("run it with --shard {shard}");
    let missing = || format!("{}: no such shard: {cure}", file.display());
    let part = Part::read(&file)?.with_context(missing)?;
    let bounds = part.identity().shard()?;
    let bounds = bounds.with_context(|| format!("{}: not a shard", file.display()))?;
    ensure!(
        (bounds.index, bounds.count) == (shard.index, shard.count),
        "{}: expected shard {shard}, got {}/{}",
        file.display(),
        bounds.index,
        bounds.count
    );
    ensure!(
        part.position().offset == bounds.end,
        "{}: not complete: {cure} again",
        file.display()
    );
    Ok(part)
}

/// Checks that the parts are those of one input, scored in one way.
fn check(parts: &[Part], output: &Path) -> Result<()> {
    for (index, part) in parts.iter().enumerate().skip(1) {
        let difference = part.identity().difference_of_shards(parts[0].identity())?;
        if let Some(difference) = difference {
            bail!(
                "{}: shard {index} is of another run than shard 0: {difference}",
                output.display()
            );
        }
    }
    Ok(())
}
