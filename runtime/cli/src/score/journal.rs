//! The journal of a run: the output, the errors, and the progress from which a later run resumes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use seeward_models::atomic::replace_file;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::input::Position;
use super::window::Window;

/// The progress file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    input: Position,
    output_bytes: u64,
    errors_bytes: u64,
    failed_rows: u64,
    #[serde(flatten)]
    identity: Identity,
}

/// The three files of a run, locked against other runs.
pub(super) struct Journal {
    output: Log,
    errors: Log,
    progress_path: PathBuf,
    progress: Progress,
}

impl Journal {
    /// Opens the files of `output`, truncated to the finished windows of the run that it resumes, or empty.
    ///
    /// # Errors
    /// The earlier run had another identity, the output does not match the progress, or another run is writing it.
    pub(super) fn open(output: &Path, identity: Identity, resume: bool) -> Result<Self> {
        let progress_path = sibling(output, ".progress");
        let output = Log::open(output.to_owned())?;
        let errors = Log::open(errors_path(&output.path))?;
        let progress = match resume {
            true => earlier(&progress_path, [&output, &errors], &identity)?,
            false => None,
        };
        let progress = progress.unwrap_or_else(|| empty(identity));
        output.check(progress.output_bytes)?;
        errors.check(progress.errors_bytes)?;
        let mut journal = Self {
            output,
            errors,
            progress_path,
            progress,
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
    pub(super) fn position(&self) -> &Position {
        &self.progress.input
    }

    /// Rows in the errors file.
    pub(super) fn failed_rows(&self) -> u64 {
        self.progress.failed_rows
    }

    /// Appends the lines of a window that ends at `position` of the input.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn append(&mut self, window: &Window, position: Position) -> Result<()> {
        self.output.append(&window.output)?;
        self.errors.append(&window.errors)?;
        self.progress.input = position;
        self.progress.output_bytes += window.output.len() as u64;
        self.progress.errors_bytes += window.errors.len() as u64;
        self.progress.failed_rows += window.failed_rows;
        self.save()
    }

    fn save(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(&self.progress)?;
        Ok(replace_file(&self.progress_path, (json + "\n").as_bytes())?)
    }
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

fn empty(identity: Identity) -> Progress {
    Progress {
        input: Position::start(),
        output_bytes: 0,
        errors_bytes: 0,
        failed_rows: 0,
        identity,
    }
}

/// The progress of an earlier run, if there was one.
fn earlier(
    path: &Path,
    [output, errors]: [&Log; 2],
    identity: &Identity,
) -> Result<Option<Progress>> {
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
    let context = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(context)?;
    let progress: Progress = serde_json::from_str(&text).with_context(context)?;
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
    use serde_json::{Map, json};

    use super::*;

    fn identity(batch_tokens: u64) -> Identity {
        Identity {
            bundle: "b".to_owned(),
            options: Map::from_iter([("batch_tokens".to_owned(), json!(batch_tokens))]),
        }
    }

    fn window(output: &str, errors: &str) -> Window {
        Window {
            output: output.to_owned(),
            errors: errors.to_owned(),
            failed_rows: u64::from(!errors.is_empty()),
            ..Window::default()
        }
    }

    fn at(offset: u64) -> Position {
        Position {
            offset,
            ..Position::start()
        }
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new/out.jsonl");
        (folder, output)
    }

    fn refusal(output: &Path, identity: Identity) -> String {
        Journal::open(output, identity, true)
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_run_resumes_after_the_last_whole_window() {
        let (_folder, output) = folder();
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        journal.append(&window("a\n", "e\n"), at(5)).unwrap();
        // The next window is interrupted before its progress is saved.
        journal.output.append("half a li").unwrap();
        journal.errors.append("half").unwrap();
        drop(journal);
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        assert_eq!((journal.position().offset, journal.failed_rows()), (5, 1));
        journal.append(&window("b\n", ""), at(9)).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "a\nb\n");
        assert_eq!(fs::read_to_string(errors_path(&output)).unwrap(), "e\n");
    }

    #[test]
    fn another_run_is_refused_and_replaced_on_request() {
        let (_folder, output) = folder();
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        journal.append(&window("a\n", ""), at(5)).unwrap();
        assert!(refusal(&output, identity(1)).contains("another run is writing"));
        drop(journal);
        let message = refusal(&output, identity(2));
        assert!(message.contains("batch_tokens was 1 and is 2"), "{message}");
        let other = Identity {
            bundle: "c".to_owned(),
            ..identity(1)
        };
        assert!(refusal(&output, other).contains("the bundle has changed"));
        assert_eq!(fs::read_to_string(&output).unwrap(), "a\n");
        let journal = Journal::open(&output, identity(2), false).unwrap();
        assert_eq!(journal.position(), &Position::start());
        assert_eq!(fs::read_to_string(&output).unwrap(), "");
    }

    #[test]
    fn files_that_do_not_match_the_progress_are_refused() {
        let (_folder, output) = folder();
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        journal.append(&window("a\n", ""), at(5)).unwrap();
        drop(journal);
        fs::write(&output, "a").unwrap();
        assert!(refusal(&output, identity(1)).contains("expected the 2 bytes"));
        fs::remove_file(sibling(&output, ".progress")).unwrap();
        assert!(refusal(&output, identity(1)).contains("without a progress file"));
        fs::write(&output, "").unwrap();
        fs::write(errors_path(&output), "e").unwrap();
        let message = refusal(&output, identity(1));
        assert!(message.contains("errors: exists, without"), "{message}");
        fs::write(sibling(&output, ".progress"), "{").unwrap();
        assert!(refusal(&output, identity(1)).ends_with(".progress"));
    }
}
