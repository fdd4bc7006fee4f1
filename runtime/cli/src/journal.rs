//! The journal of a program that converts an input: its output, its errors, and the progress from which a later run
//! resumes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use seeward_models::atomic::{replace_file, replace_file_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The identity of a run: only a run of the same identity can resume.
pub(crate) trait Identity: Serialize + DeserializeOwned {
    /// What differs from the earlier run, if anything does.
    fn difference(&self, earlier: &Self) -> Option<String>;

    /// What differs from an earlier run that this one resumes all the same.
    fn notice(&self, _earlier: &Self) -> Option<String> {
        None
    }
}

/// The progress file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress<P, I> {
    input: P,
    output_bytes: u64,
    errors_bytes: u64,
    failed_rows: u64,
    #[serde(flatten)]
    identity: I,
}

/// The three files of a run, locked against other runs. `P` is a place in the input, `I` the run's identity.
pub(crate) struct Journal<P, I> {
    output: Log,
    errors: Log,
    progress_path: PathBuf,
    progress: Progress<P, I>,
    notice: Option<String>,
}

impl<P: Serialize + DeserializeOwned, I: Identity> Journal<P, I> {
    /// Opens the files of `output`, truncated to the finished parts of the run that it resumes, or empty; an input begins at
    /// `start`.
    ///
    /// # Errors
    /// The earlier run had another identity, the output does not match the progress, or another run is writing it.
    pub(crate) fn open(output: &Path, identity: I, start: P, resume: bool) -> Result<Self> {
        let progress_path = sibling(output, ".progress");
        let output = Log::open(output.to_owned())?;
        let errors = Log::open(errors_path(&output.path))?;
        let progress = match resume {
            true => earlier(&progress_path, [&output, &errors], &identity)?,
            false => None,
        };
        let notice = progress.as_ref().and_then(|p| identity.notice(&p.identity));
        // A resumed run may know more than the earlier one, such as files that follow.
        let progress = match progress {
            Some(progress) => Progress {
                identity,
                ..progress
            },
            None => empty(identity, start),
        };
        output.check(progress.output_bytes)?;
        errors.check(progress.errors_bytes)?;
        let mut journal = Self {
            output,
            errors,
            progress_path,
            progress,
            notice,
        };
        journal.cut()?;
        Ok(journal)
    }

    /// Saves the progress, then truncates the files to it. In the opposite order, a crash in between would leave files
    /// that are shorter than their progress.
    fn cut(&mut self) -> Result<()> {
        self.save()?;
        self.output.cut(self.progress.output_bytes)?;
        self.errors.cut(self.progress.errors_bytes)
    }

    /// The place in the input from which the run resumes.
    pub(crate) fn position(&self) -> &P {
        &self.progress.input
    }

    /// What differs from the run that this one resumes.
    pub(crate) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Rows in the errors file.
    pub(crate) fn failed_rows(&self) -> u64 {
        self.progress.failed_rows
    }

    /// Appends the lines of a part that ends at `position` of the input: those of the output, and those of its failed rows.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn append(
        &mut self,
        [output, errors]: [&str; 2],
        failed_rows: u64,
        position: P,
    ) -> Result<()> {
        self.output.append(output)?;
        self.errors.append(errors)?;
        self.progress.input = position;
        self.progress.output_bytes += output.len() as u64;
        self.progress.errors_bytes += errors.len() as u64;
        self.progress.failed_rows += failed_rows;
        self.save()
    }

    fn save(&self) -> Result<()> {
        save(&self.progress, &self.progress_path)
    }
}

fn save<P: Serialize, I: Serialize>(progress: &Progress<P, I>, path: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(progress)?;
    Ok(replace_file(path, (json + "\n").as_bytes())?)
}

fn read_progress<P: DeserializeOwned, I: DeserializeOwned>(path: &Path) -> Result<Progress<P, I>> {
    let context = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(context)?;
    serde_json::from_str(&text).with_context(context)
}

/// A run that is not running: its files, with what its progress says of them.
pub(crate) struct Ended<P, I> {
    output: PathBuf,
    progress: Progress<P, I>,
}

impl<P: Clone + PartialEq + Serialize + DeserializeOwned, I: Identity + PartialEq> Ended<P, I> {
    /// The run that wrote `output`; `None` without a progress file.
    ///
    /// # Errors
    /// It is running, or its files are shorter than its progress says.
    pub(crate) fn read(output: &Path) -> Result<Option<Self>> {
        let path = sibling(output, ".progress");
        if !path.exists() {
            return Ok(None);
        }
        let [lines, errors] = [output.to_owned(), errors_path(output)].map(Log::open);
        let progress: Progress<P, I> = read_progress(&path)?;
        lines?.check(progress.output_bytes)?;
        errors?.check(progress.errors_bytes)?;
        Ok(Some(Self {
            output: output.to_owned(),
            progress,
        }))
    }

    /// The place in the input that it has reached.
    pub(crate) fn position(&self) -> &P {
        &self.progress.input
    }

    pub(crate) fn identity(&self) -> &I {
        &self.progress.identity
    }

    /// Writes the files of `output` as one run of `identity` would have left them: those of `parts`, which follow each other.
    /// The progress comes first, so that an interrupted call can be repeated.
    ///
    /// # Errors
    /// The files of another run are there and `replace` is false; the disk's.
    pub(crate) fn join(output: &Path, parts: &[Self], identity: I, replace: bool) -> Result<u64> {
        let last = parts.last().context("expected at least one part")?;
        let sum =
            |number: fn(&Progress<P, I>) -> u64| parts.iter().map(|p| number(&p.progress)).sum();
        let progress = Progress {
            input: last.position().clone(),
            output_bytes: sum(|p| p.output_bytes),
            errors_bytes: sum(|p| p.errors_bytes),
            failed_rows: sum(|p| p.failed_rows),
            identity,
        };
        let progress_path = sibling(output, ".progress");
        let is_ours = match progress_path.exists() {
            true => read_progress::<P, I>(&progress_path)? == progress,
            false => !output.exists(),
        };
        if !is_ours && !replace {
            bail!(
                "{}: exists, written by another run (--no-resume replaces it)",
                output.display()
            );
        }
        save(&progress, &progress_path)?;
        join_files(
            output,
            parts
                .iter()
                .map(|p| (p.output.clone(), p.progress.output_bytes)),
        )?;
        let errors = parts
            .iter()
            .map(|p| (errors_path(&p.output), p.progress.errors_bytes));
        join_files(&errors_path(output), errors)?;
        Ok(progress.failed_rows)
    }
}

/// Replaces `target` by the first bytes of each of the files.
fn join_files(target: &Path, files: impl Iterator<Item = (PathBuf, u64)>) -> Result<()> {
    let joined = replace_file_with(target, |joined| {
        for (path, bytes) in files {
            let copied = std::io::copy(&mut File::open(&path)?.take(bytes), joined)?;
            if copied != bytes {
                let problem = format!("{}: expected {bytes} bytes, got {copied}", path.display());
                return Err(std::io::Error::other(problem));
            }
        }
        Ok(())
    });
    Ok(joined?)
}

/// The file of the rows that failed.
pub(crate) fn errors_path(output: &Path) -> PathBuf {
    sibling(output, ".errors")
}

fn sibling(output: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(ending);
    name.into()
}

fn empty<P, I>(identity: I, start: P) -> Progress<P, I> {
    Progress {
        input: start,
        output_bytes: 0,
        errors_bytes: 0,
        failed_rows: 0,
        identity,
    }
}

/// The progress of an earlier run, if there was one.
fn earlier<P: DeserializeOwned, I: Identity>(
    path: &Path,
    [output, errors]: [&Log; 2],
    identity: &I,
) -> Result<Option<Progress<P, I>>> {
    const HINT: &str = "--no-resume starts from scratch";
    if !path.exists() {
        for log in [output, errors] {
            if log.length()? > 0 {
                let log = log.path.display();
                bail!("{log}: exists, without a progress file to resume from ({HINT})");
            }
        }
        return Ok(None);
    }
    let progress: Progress<P, I> = read_progress(path)?;
    match identity.difference(&progress.identity) {
        Some(difference) => bail!("{}: cannot resume: {difference} ({HINT})", path.display()),
        None => Ok(Some(progress)),
    }
}

/// A file that only grows.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self> {
        let context = || path.display().to_string();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        if path.is_dir() {
            bail!("{}: expected a file, got a folder", path.display());
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(fs::TryLockError::WouldBlock) => {
                bail!("{}: another run is writing it", path.display())
            }
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(context),
        }
    }

    fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata
            .with_context(|| self.path.display().to_string())?
            .len())
    }

    fn check(&self, expected: u64) -> Result<()> {
        let length = self.length()?;
        if length < expected {
            bail!(
                "{}: expected the {expected} bytes that were written, got {length} (--no-resume starts from scratch)",
                self.path.display()
            );
        }
        Ok(())
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        let cut = |file: &mut File| {
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))
        };
        cut(&mut self.file).with_context(|| self.path.display().to_string())?;
        Ok(())
    }

    fn append(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let append = |file: &mut File| {
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        append(&mut self.file).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Version {
        version: u64,
    }

    impl Identity for Version {
        fn difference(&self, earlier: &Self) -> Option<String> {
            let (was, is) = (earlier.version, self.version);
            (was != is).then(|| format!("version was {was} and is {is}"))
        }
    }

    fn open(output: &Path, version: u64, resume: bool) -> Result<Journal<u64, Version>> {
        Journal::open(output, Version { version }, 0, resume)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new/out.jsonl");
        (folder, output)
    }

    fn refusal(output: &Path, version: u64) -> String {
        open(output, version, true).err().unwrap().to_string()
    }

    #[test]
    fn a_run_resumes_after_the_last_whole_window() {
        let (_folder, output) = folder();
        let mut journal = open(&output, 1, true).unwrap();
        journal.append(["a\n", "e\n"], 1, 5).unwrap();
        // The next window is interrupted before its progress is saved.
        journal.output.append("half a li").unwrap();
        journal.errors.append("half").unwrap();
        drop(journal);
        let mut journal = open(&output, 1, true).unwrap();
        assert_eq!((*journal.position(), journal.failed_rows()), (5, 1));
        journal.append(["b\n", ""], 0, 9).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "a\nb\n");
        assert_eq!(fs::read_to_string(errors_path(&output)).unwrap(), "e\n");
    }

    #[test]
    fn another_run_is_refused_and_replaced_on_request() {
        let (_folder, output) = folder();
        let mut journal = open(&output, 1, true).unwrap();
        journal.append(["a\n", ""], 0, 5).unwrap();
        assert!(refusal(&output, 1).contains("another run is writing"));
        drop(journal);
        let message = refusal(&output, 2);
        assert!(message.contains("version was 1 and is 2"), "{message}");
        assert_eq!(fs::read_to_string(&output).unwrap(), "a\n");
        let journal = open(&output, 2, false).unwrap();
        assert_eq!(journal.position(), &0);
        assert_eq!(fs::read_to_string(&output).unwrap(), "");
    }

    #[test]
    fn files_that_do_not_match_the_progress_are_refused() {
        let (_folder, output) = folder();
        let mut journal = open(&output, 1, true).unwrap();
        journal.append(["a\n", ""], 0, 5).unwrap();
        drop(journal);
        fs::write(&output, "a").unwrap();
        assert!(refusal(&output, 1).contains("expected the 2 bytes"));
        fs::remove_file(sibling(&output, ".progress")).unwrap();
        assert!(refusal(&output, 1).contains("without a progress file"));
        fs::write(&output, "").unwrap();
        fs::write(errors_path(&output), "e").unwrap();
        let message = refusal(&output, 1);
        assert!(message.contains("errors: exists, without"), "{message}");
        fs::write(sibling(&output, ".progress"), "{").unwrap();
        assert!(refusal(&output, 1).ends_with(".progress"));
    }
}
