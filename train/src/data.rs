//! The training and evaluation rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use seeward_models::sample::{self, Lines, Pair, Sft};

/// What a run learns from.
#[derive(Debug)]
pub enum Rows {
    /// Preference pairs.
    Pairs(Vec<Row<Pair>>),
    /// Responses to imitate.
    Sft(Vec<Row<Sft>>),
}

/// A row, and where it stands.
#[derive(Debug)]
pub struct Row<T> {
    /// What was read.
    pub sample: T,
    file: Arc<PathBuf>,
    line: u64,
}

impl<T> Row<T> {
    /// `file:line`, as messages begin.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

impl Rows {
    /// Reads the preference pairs of a JSONL file, in the order written. Relative image paths start from `image_root`,
    /// or from the file's folder.
    pub fn pairs(path: &Path, image_root: Option<&Path>) -> Result<Self> {
        let root = root(path, image_root);
        let parse = |text: &str| {
            let mut pairs = sample::pairs(text)?.pairs;
            for pair in &mut pairs {
                resolve(root, &mut pair.chosen_images);
                resolve(root, &mut pair.rejected_images);
            }
            Ok(pairs)
        };
        Ok(Self::Pairs(read(path, parse)?))
    }

    /// Reads the responses to imitate of a JSONL file; images as for [`Rows::pairs`].
    pub fn sft(path: &Path, image_root: Option<&Path>) -> Result<Self> {
        let root = root(path, image_root);
        let parse = |text: &str| {
            let mut row = sample::sft(text)?;
            resolve(root, &mut row.images);
            Ok(vec![row])
        };
        Ok(Self::Sft(read(path, parse)?))
    }

    /// How many there are; a file without any is refused.
    pub fn count(&self) -> usize {
        match self {
            Self::Pairs(rows) => rows.len(),
            Self::Sft(rows) => rows.len(),
        }
    }
}

fn root<'a>(path: &'a Path, image_root: Option<&'a Path>) -> &'a Path {
    image_root.unwrap_or_else(|| path.parent().unwrap_or(Path::new("")))
}

fn resolve(root: &Path, images: &mut [String]) {
    for image in images {
        *image = root.join(&*image).to_string_lossy().into_owned();
    }
}

fn read<T>(
    path: &Path,
    parse: impl Fn(&str) -> seeward_models::Result<Vec<T>>,
) -> Result<Vec<Row<T>>> {
    let file = Arc::new(path.to_owned());
    let mut rows = Vec::new();
    for item in Lines::open(path)? {
        let (line, text) = item?;
        let place = || format!("{}:{}", path.display(), line.number);
        let samples = text
            .and_then(|text| parse(&text))
            .map_err(|e| e.at(place()))?;
        rows.extend(samples.into_iter().map(|sample| Row {
            sample,
            file: file.clone(),
            line: line.number,
        }));
    }
    if rows.is_empty() {
        bail!("{}: no training rows", path.display());
    }
    Ok(rows)
}
