//! The command line of `seeward-import`: as typed, then validated.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Parser;

use super::set::Set;
use crate::image_folder::ImageFolder;

pub(super) const PROGRAM: &str = "seeward-import";

const EXAMPLES: &str = "Examples:
  seeward-import --input data/train-*.parquet --output rlaif-v
  seeward-import --input data/train-00000.parquet --output rlaif-v --dry-run
  seeward-evaluate --model bundles/mine --data rlaif-v=rlaif-v/rows.jsonl";

fn after_help() -> String {
    let names: Vec<_> = Set::all().map(|set| set.name).collect();
    format!(
        "{EXAMPLES}\n\nSets (--format): {}.\n\nExit status: 0 success, 1 some rows failed, 2 error, 130 or 143 stopped by a \
         signal; rerun the same command to resume.",
        names.join(", ")
    )
}

/// Converts Parquet files of preferences, as Hugging Face hands them out, to rows.jsonl and images/.
///
/// Embedded images, and files that a row names, are stored once each under a name from their content. Rows that cannot
/// be converted go to rows.jsonl.errors. An interrupted run resumes.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = after_help())]
pub(super) struct Arguments {
    /// Parquet files of one set, in order
    #[arg(long, value_name = "FILE.parquet", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Folder for rows.jsonl and images/
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Set whose columns the files have [default: recognised by the columns]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Base folder of image paths; no path or link may leave it [default: the folder of each Parquet file]
    #[arg(long, value_name = "DIR")]
    image_root: Option<PathBuf>,
    /// Allow absolute paths, `..` and symbolic links to leave the image root
    #[arg(long)]
    allow_outside_root: bool,
    /// Print the schema and the set that the files are taken for, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Start from scratch instead of resuming an interrupted run
    #[arg(long)]
    no_resume: bool,
}

/// An import.
pub(super) struct Job {
    /// At least one.
    pub(super) input: Vec<PathBuf>,
    pub(super) output: PathBuf,
    pub(super) set: Option<&'static Set>,
    pub(super) image_root: Option<PathBuf>,
    pub(super) allow_outside_root: bool,
    pub(super) dry_run: bool,
    pub(super) resume: bool,
}

impl Arguments {
    /// # Errors
    /// An unknown set.
    pub(super) fn validate(self) -> Result<Job> {
        Ok(Job {
            set: self.format.as_deref().map(named).transpose()?,
            input: self.input,
            output: self.output.unwrap_or_default(),
            image_root: self.image_root,
            allow_outside_root: self.allow_outside_root,
            dry_run: self.dry_run,
            resume: !self.no_resume,
        })
    }
}

impl Job {
    /// The folder of the images that a file names, which no path leaves unless that is allowed.
    ///
    /// # Errors
    /// No such folder.
    pub(super) fn images(&self, file: &Path) -> Result<ImageFolder> {
        let own = || match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let root = self.image_root.clone().unwrap_or_else(own);
        ImageFolder::new(Some(root), self.allow_outside_root, file)
    }
}

fn named(name: &str) -> Result<&'static Set> {
    match Set::all().find(|set| set.name == name) {
        Some(set) => Ok(set),
        None => {
            let names: Vec<_> = Set::all().map(|set| set.name).collect();
            bail!("--format {name}: expected one of {}", names.join(", "))
        }
    }
}
