//! The command line of `seeward-evaluate`: as typed, then validated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::Parser;
use seeward_models::rows;
use seeward_models::sample::{CarriedKeys, Format, PreferenceReader};
use seeward_runtime::{Device, InputMode};

use crate::arguments::{EngineOptions, SharedArguments};
use crate::image_folder::ImageFolder;

pub(super) const PROGRAM: &str = "seeward-evaluate";

const EXAMPLES: &str = "Examples:
  seeward-evaluate --model out/demo/bundles/standard --data iid=out/demo/data/iid.jsonl
  seeward-evaluate --model B --text-only-model T --data povid=povid.jsonl --data rlhfv=rlhfv.jsonl --output report";

const STATUS: &str =
    "Exit status: 0 success, 1 some rows failed, 2 error, 130 or 143 stopped by a signal.";

fn after_help() -> String {
    let names: Vec<_> = Format::names().collect();
    format!(
        "{EXAMPLES}\n\nFormats (--format): {}.\n\n{STATUS}",
        names.join(", ")
    )
}

/// Measures the accuracy of a reward model on known preferences, and its dependence on a text-only shortcut.
///
/// Rows are preferences in any of the formats below, one per line; the format of a file is that of its first row. With a
/// text-only model the report has the shortcut-failure degradation: the accuracy where that model is right minus the
/// accuracy where it is wrong. An interrupted evaluation with --output resumes.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = after_help())]
pub(super) struct Arguments {
    /// Bundle to evaluate
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Name and file of a set of preferences; can be repeated. JSON lines or a JSON array, plain or compressed by gzip or
    /// zstd; - is standard input
    #[arg(long, value_name = "NAME=FILE.jsonl", required = true)]
    data: Vec<NamedFile>,
    /// Bundle scored without images: the proxy of the shortcut
    #[arg(long, value_name = "BUNDLE")]
    text_only_model: Option<PathBuf>,
    /// Second bundle to compare with
    #[arg(long, value_name = "BUNDLE")]
    compare: Option<PathBuf>,
    /// Format of the rows [default: recognised by the keys of the first row]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// The trainer's metrics.jsonl, for curves in the report
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Folder for report.html, report.json and the scores
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    shared: SharedArguments,
}

/// `NAME=FILE`.
#[derive(Clone, Debug)]
struct NamedFile {
    name: String,
    path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: path.into(),
            }),
            _ => Err("expected NAME=FILE.jsonl".to_owned()),
        }
    }
}

/// The evaluation that the arguments ask for.
pub(super) struct Job {
    pub(super) model: PathBuf,
    pub(super) text_only_model: Option<PathBuf>,
    pub(super) compare: Option<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) carried: CarriedKeys,
    pub(super) metrics: Option<PathBuf>,
    pub(super) device: Device,
    pub(super) engine: EngineOptions,
    pub(super) files: Vec<PreferenceFile>,
    pub(super) output: Option<PathBuf>,
    pub(super) resume: bool,
}

/// A file of preferences.
pub(super) struct PreferenceFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) images: ImageFolder,
}

impl Job {
    /// The reader of a file's rows.
    ///
    /// # Errors
    /// The file cannot be read, or its format is unknown.
    pub(super) fn reader(&self, path: &Path) -> Result<PreferenceReader> {
        let carried = self.carried.clone();
        Ok(match self.format {
            Some(format) => PreferenceReader::named(format, carried),
            None => PreferenceReader::recognise(path, carried)?,
        })
    }

    /// The options of the text-only model, which sees no image whatever its bundle says.
    pub(super) fn text_only_engine(&self) -> EngineOptions {
        EngineOptions {
            input_mode: InputMode::TextOnly,
            ..self.engine.clone()
        }
    }
}

impl Arguments {
    /// # Errors
    /// An unknown device, format or image root; a name that is given twice or is no file name.
    pub(super) fn validate(self) -> Result<Job> {
        check_names(&self.data)?;
        let shared = self.shared;
        let file = |NamedFile { name, path }| {
            let images = shared.images(&path)?;
            Ok(PreferenceFile { name, path, images })
        };
        Ok(Job {
            files: self.data.into_iter().map(file).collect::<Result<_>>()?,
            model: self.model,
            text_only_model: self.text_only_model,
            compare: self.compare,
            format: self.format.map(|name| name.parse()).transpose()?,
            carried: shared.carried(),
            metrics: self.metrics,
            device: shared.device()?,
            engine: shared.engine(),
            output: self.output,
            resume: shared.resume(),
        })
    }
}

/// Names are unique and become parts of file names.
fn check_names(files: &[NamedFile]) -> Result<()> {
    let mut names = BTreeSet::new();
    let stdin = files.iter().filter(|file| rows::is_stdin(&file.path));
    ensure!(stdin.count() < 2, "--data: standard input can be one set");
    for NamedFile { name, .. } in files {
        ensure!(names.insert(name), "--data {name}: the name is given twice");
        ensure!(
            !name.contains(['/', '\\']) && !name.starts_with('.'),
            "--data {name}: expected a name without path separators and leading dots"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Job> {
        let arguments = arguments.split_whitespace();
        Arguments::try_parse_from(["seeward-evaluate"].into_iter().chain(arguments))?.validate()
    }

    #[test]
    fn sets_have_a_name_and_a_file() {
        let job = parse("--model b --data iid=a=b.jsonl --data ood=c.jsonl").unwrap();
        let sets: Vec<_> = job
            .files
            .iter()
            .map(|s| (s.name.as_str(), s.path.as_path()))
            .collect();
        assert_eq!(
            sets,
            [
                ("iid", Path::new("a=b.jsonl")),
                ("ood", Path::new("c.jsonl"))
            ]
        );
        assert_eq!(job.text_only_engine().input_mode, InputMode::TextOnly);
        assert_eq!(job.engine.gpu_memory_limit, None);
        let job = parse("--model b --data x=a --device cuda --gpu-memory-limit 4096").unwrap();
        assert_eq!(job.text_only_engine().gpu_memory_limit, Some(4096));
    }

    #[test]
    fn names_become_file_names() {
        let refused = |name: &str| parse(&format!("--model b --data {name}=x")).err().unwrap();
        assert!(
            refused("a/b")
                .to_string()
                .contains("expected a name without path separators")
        );
        assert!(
            refused("..")
                .to_string()
                .contains("expected a name without path separators")
        );
    }

    #[test]
    fn a_format_is_known_by_its_name() {
        let job = parse("--model b --data x=a --format ms-swift").unwrap();
        assert_eq!(job.format, "ms-swift".parse().ok());
        let refused = parse("--model b --data x=a --format csv")
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.starts_with("format csv: expected one of"),
            "{refused}"
        );
    }

    #[test]
    fn a_set_without_a_unique_name_is_refused() {
        let refused = |arguments: &str| parse(arguments).err().unwrap().to_string();
        assert!(refused("--model b --data a.jsonl").contains("expected NAME=FILE.jsonl"));
        assert!(
            refused("--model b --data x=a --data x=b")
                .contains("--data x: the name is given twice")
        );
        assert!(refused("--model b").contains("--data"));
        assert!(refused("--model b --data x=- --data y=/dev/stdin").contains("can be one set"));
    }
}
