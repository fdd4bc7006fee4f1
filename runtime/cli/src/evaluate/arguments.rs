//! The command line: as typed, then as what the program does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::Parser;
use seeward_models::sample::{CarriedKeys, Format};
use seeward_runtime::{InputMode, Options};

use crate::image_folder::ImageFolder;

const EXAMPLES: &str = "Examples:
  seeward-evaluate --model out/demo/bundles/standard --data iid=out/demo/data/iid.jsonl
  seeward-evaluate --model B --text-only-model T --data povid=povid.jsonl --data rlhfv=rlhfv.jsonl --output report

Formats (--format): pairwise, vlfeedback, responses (with chosen_index or ratings), trl, ms-swift, internvl,
vl-rewardbench, mm-rlhf-rewardbench, multimodal-rewardbench.

Exit status: 0 all well, 1 some rows failed, 2 error.";

/// Measures how good a reward model is on preferences that are known, and whether it leans on text.
///
/// Rows are preferences in any of the formats below, one a line; a file has one format, that of its first row. With a
/// text-only model the report has the shortcut-failure degradation: the accuracy where that model is right minus the
/// accuracy where it is wrong. An evaluation with --output that was cut off goes on where it was.
#[derive(Debug, Parser)]
#[command(name = super::PROGRAM, version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Bundle to evaluate
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// A set of preferences and what to call it; may be given often
    #[arg(long, value_name = "NAME=FILE.jsonl", required = true)]
    data: Vec<Named>,
    /// Bundle that sees no image: the shortcut's proxy
    #[arg(long, value_name = "BUNDLE")]
    text_only_model: Option<PathBuf>,
    /// Another bundle, to be held against the model
    #[arg(long, value_name = "BUNDLE")]
    compare: Option<PathBuf>,
    /// Format of the rows, whatever other keys they have [default: recognised by the keys]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Key that is plain data, although its name suggests an image, a video or turns; may be given often
    #[arg(long, value_name = "KEY")]
    carry: Vec<String>,
    /// The trainer's metrics.jsonl, to be drawn in the report
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Where the models run: cpu, cuda[:N] or tensorrt[:N]
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder that image paths are relative to; no path or link may lead out of it [default: each file's folder]
    #[arg(long, value_name = "DIR")]
    image_root: Option<PathBuf>,
    /// Let absolute paths, `..` and symbolic links lead out of the image root
    #[arg(long)]
    allow_outside_root: bool,
    /// Threads of the engine and of picture decoding [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Most bytes of GPU memory for each of the model's two graphs; CUDA's libraries take some on top [default: no limit]
    #[arg(long, value_name = "BYTES")]
    gpu_memory_limit: Option<u64>,
    /// Folder for report.html, report.json and the scores
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Score afresh instead of going on where an earlier evaluation stopped
    #[arg(long)]
    no_resume: bool,
}

/// `NAME=FILE`.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    path: PathBuf,
}

impl FromStr for Named {
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

/// What to do.
pub(super) struct Job {
    pub(super) model: PathBuf,
    pub(super) text_only_model: Option<PathBuf>,
    pub(super) compare: Option<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) carried: CarriedKeys,
    pub(super) metrics: Option<PathBuf>,
    pub(super) options: Options,
    pub(super) sets: Vec<DataSet>,
    pub(super) output: Option<PathBuf>,
    pub(super) resume: bool,
}

/// A file of preferences.
pub(super) struct DataSet {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) images: ImageFolder,
}

impl Job {
    /// How the text-only model is loaded: whatever it was trained on, it sees no image here.
    pub(super) fn text_only_options(&self) -> Options {
        self.options.clone().input(InputMode::TextOnly)
    }
}

impl Arguments {
    pub(super) fn validate(self) -> Result<Job> {
        let options = Options::default()
            .device(self.device.parse()?)
            .threads(self.threads)
            .gpu_memory_limit(self.gpu_memory_limit);
        let mut names = BTreeSet::new();
        for set in &self.data {
            let is_new = names.insert(&set.name);
            ensure!(is_new, "--data {}: the name is given twice", set.name);
            let is_file_name = !set.name.contains(['/', '\\']) && !set.name.starts_with('.');
            ensure!(
                is_file_name,
                "--data {}: expected a name that files can have",
                set.name
            );
        }
        let images =
            |path: &Path| ImageFolder::new(self.image_root.clone(), self.allow_outside_root, path);
        let set = |Named { name, path }| {
            let images = images(&path)?;
            Ok(DataSet { name, path, images })
        };
        Ok(Job {
            sets: self.data.into_iter().map(set).collect::<Result<_>>()?,
            model: self.model,
            text_only_model: self.text_only_model,
            compare: self.compare,
            format: self.format.map(|name| name.parse()).transpose()?,
            carried: self.carry.into_iter().collect(),
            metrics: self.metrics,
            options,
            output: self.output,
            resume: !self.no_resume,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
            .sets
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
        assert_eq!(job.text_only_options().input, InputMode::TextOnly);
        assert_eq!(job.options.gpu_memory_limit, None);
        let job = parse("--model b --data x=a --device cuda --gpu-memory-limit 4096").unwrap();
        assert_eq!(job.text_only_options().gpu_memory_limit, Some(4096));
    }

    #[test]
    fn names_become_file_names() {
        let refused = |name: &str| parse(&format!("--model b --data {name}=x")).err().unwrap();
        assert!(
            refused("a/b")
                .to_string()
                .contains("expected a name that files can have")
        );
        assert!(
            refused("..")
                .to_string()
                .contains("expected a name that files can have")
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
    fn a_set_without_a_name_of_its_own_is_refused() {
        let refused = |arguments: &str| parse(arguments).err().unwrap().to_string();
        assert!(refused("--model b --data a.jsonl").contains("expected NAME=FILE.jsonl"));
        assert!(
            refused("--model b --data x=a --data x=b")
                .contains("--data x: the name is given twice")
        );
        assert!(refused("--model b").contains("--data"));
    }
}
