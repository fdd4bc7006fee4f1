//! What a run has written so far: the output, the errors, and the progress that a later run goes on from.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use seeward_models::atomic::replace_file;
use seeward_models::forest::LAYOUT_VERSION;
use seeward_runtime::RewardModel;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::WINDOW_ROWS;
use super::arguments::Job;
use super::input::Position;
use super::window::Window;

/// What decides the bytes of the output besides the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// sha256 of the bundle's manifest.
    bundle: String,
    options: Map<String, Value>,
}

impl Identity {
    pub(super) fn new(job: &Job, model: &RewardModel) -> Result<Self> {
        let mut options = vec![
            ("provider", json!(model.device().provider())),
            ("layout_version", json!(LAYOUT_VERSION)),
            ("input_mode", json!(model.input_mode())),
            ("batch_tokens", json!(job.options.batch_tokens)),
            ("window_rows", json!(WINDOW_ROWS)),
            ("max_image_pixels", json!(job.options.max_image_pixels)),
            ("image_root", json!(job.images.identity()?)),
            ("image_root_fenced", json!(job.images.is_fenced())),
        ];
        // Absent as in files that were written before there was such a flag.
        let carried: Vec<&str> = job.carried.names().collect();
        if !carried.is_empty() {
            options.push(("carry", json!(carried)));
        }
        let options = options.into_iter().map(|(k, v)| (k.to_owned(), v));
        Ok(Self {
            bundle: model.bundle().hash().to_owned(),
            options: options.collect(),
        })
    }

    /// What is not as it was in `before`.
    fn difference(&self, before: &Self) -> Option<String> {
        if self.bundle != before.bundle {
            return Some("the bundle is another one".to_owned());
        }
        let changed = |(name, now): (&String, &Value)| match before.options.get(name) {
            Some(was) if was == now => None,
            Some(was) => Some(format!("{name} was {was} and is {now}")),
            None => Some(format!("{name} was not set and is {now}")),
        };
        let gone = || {
            let is_gone = |(name, _): &(&String, &Value)| !self.options.contains_key(*name);
            let (name, was) = before.options.iter().find(is_gone)?;
            Some(format!("{name} was {was} and is not set"))
        };
        self.options.iter().find_map(changed).or_else(gone)
    }
}

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

/// The three files of a run, of which only it may write.
pub(super) struct Journal {
    output: Log,
    errors: Log,
    progress_path: PathBuf,
    progress: Progress,
}

impl Journal {
    /// Opens the files of `output`, cut to what the last run had finished, or empty.
    ///
    /// # Errors
    /// The earlier run was another one; the output is not what the progress says; another run is writing it.
    pub(super) fn open(output: &Path, identity: Identity, resume: bool) -> Result<Self> {
        let progress_path = beside(output, ".progress");
        let output = Log::open(output.to_owned())?;
        let errors = Log::open(errors_path(&output.path))?;
        let progress = match resume {
            true => earlier(&progress_path, [&output, &errors], &identity)?,
            false => None,
        };
        let progress = progress.unwrap_or_else(|| fresh(identity));
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

    /// Cuts the files to what the progress says, after saving it: the other way round, a crash in between would leave
    /// files that are shorter than it says.
    fn cut(&mut self) -> Result<()> {
        self.save()?;
        self.output.cut(self.progress.output_bytes)?;
        self.errors.cut(self.progress.errors_bytes)
    }

    /// Where the input goes on.
    pub(super) fn position(&self) -> &Position {
        &self.progress.input
    }

    /// Rows in the errors file.
    pub(super) fn failed_rows(&self) -> u64 {
        self.progress.failed_rows
    }

    /// Writes what a window gave, which ends at `position` of the input.
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
    beside(output, ".errors")
}

fn beside(output: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(ending);
    name.into()
}

fn fresh(identity: Identity) -> Progress {
    Progress {
        input: Position::start(),
        output_bytes: 0,
        errors_bytes: 0,
        failed_rows: 0,
        identity,
    }
}

/// The progress of the run to go on from, if there was one.
fn earlier(
    path: &Path,
    [output, errors]: [&Log; 2],
    identity: &Identity,
) -> Result<Option<Progress>> {
    const HINT: &str = "--no-resume starts afresh";
    if !path.exists() {
        for log in [output, errors] {
            if log.length()? > 0 {
                let log = log.path.display();
                bail!("{log}: exists, with no progress file to go on from ({HINT})");
            }
        }
        return Ok(None);
    }
    let context = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(context)?;
    let progress: Progress = serde_json::from_str(&text).with_context(context)?;
    match identity.difference(&progress.identity) {
        Some(difference) => bail!(
            "{}: the earlier run cannot go on: {difference} ({HINT})",
            path.display()
        ),
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
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            bail!(
                "{}: expected a file, which a later run can go on with; this is none",
                path.display()
            );
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
                "{}: expected the {expected} bytes that were written, got {length} (--no-resume starts afresh)",
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
#[allow(clippy::unwrap_used)]
mod tests {
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
    fn a_run_goes_on_behind_the_last_whole_window() {
        let (_folder, output) = folder();
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        journal.append(&window("a\n", "e\n"), at(5)).unwrap();
        // The next window is cut off before its progress is saved.
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
        assert!(refusal(&output, other).contains("the bundle is another one"));
        assert_eq!(fs::read_to_string(&output).unwrap(), "a\n");
        let journal = Journal::open(&output, identity(2), false).unwrap();
        assert_eq!(journal.position(), &Position::start());
        assert_eq!(fs::read_to_string(&output).unwrap(), "");
    }

    #[test]
    fn what_is_no_file_is_neither_written_nor_given_neighbours() {
        let (folder, _) = folder();
        let link = folder.path().join("out");
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        assert!(refusal(&link, identity(1)).contains("expected a file"));
        assert!(refusal(folder.path(), identity(1)).contains("expected a file"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_are_not_what_the_progress_says_are_refused() {
        let (_folder, output) = folder();
        let mut journal = Journal::open(&output, identity(1), true).unwrap();
        journal.append(&window("a\n", ""), at(5)).unwrap();
        drop(journal);
        fs::write(&output, "a").unwrap();
        assert!(refusal(&output, identity(1)).contains("expected the 2 bytes"));
        fs::remove_file(beside(&output, ".progress")).unwrap();
        assert!(refusal(&output, identity(1)).contains("no progress file"));
        fs::write(&output, "").unwrap();
        fs::write(errors_path(&output), "e").unwrap();
        let message = refusal(&output, identity(1));
        assert!(message.contains("errors: exists, with no"), "{message}");
        fs::write(beside(&output, ".progress"), "{").unwrap();
        assert!(refusal(&output, identity(1)).ends_with(".progress"));
    }
}
