//! The config of a training run: a YAML file with the published key names, `--set key=value` on top, complete and
//! checked before anything is loaded.

mod check;
mod foreign;
mod keys;
mod nearest;
mod setting;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_norway::{Mapping, Value};

use foreign::Verdict;
pub use keys::{
    Algorithm, Config, EvalStrategy, Normalization, PixelShuffle, Resume, SaveStrategy,
    SchedulerKind, Sfc,
};

/// Keys that change what is written and when, or how fast, but no number of the training.
const WITHOUT_EFFECT_ON_NUMBERS: [&str; 18] = [
    "eval_data",
    "eval_steps",
    "eval_strategy",
    "logging_first_step",
    "logging_steps",
    "max_bad_fraction",
    "output_dir",
    "overwrite_output_dir",
    "per_device_eval_batch_size",
    "report_to",
    "resume_from_checkpoint",
    "save_only_model",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "threads",
    "vision_cache_disk",
    "vision_cache_memory",
];

impl Config {
    /// Reads the file at `path`, then applies `sets` (`key=value`, the value in YAML). The strings are notices for the
    /// user.
    ///
    /// # Errors
    /// Not YAML, an unknown key (the nearest one is named), a value of the wrong type or out of its range, a feature
    /// that there is not, a combination that contradicts itself.
    pub fn load(path: impl AsRef<Path>, sets: &[String]) -> Result<(Self, Vec<String>)> {
        let path = path.as_ref();
        let place = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(place)?;
        Self::from_yaml(&text, &place(), sets)
    }

    /// As [`load`](Config::load), from a text that messages call `place`.
    pub fn from_yaml(text: &str, place: &str, sets: &[String]) -> Result<(Self, Vec<String>)> {
        let mut reader = Reader::default();
        reader.file(text).map_err(|e| anyhow!("{place}: {e:#}"))?;
        for set in sets {
            reader
                .assignment(set)
                .map_err(|e| anyhow!("--set {set}: {e:#}"))?;
        }
        reader.finish().map_err(|e| anyhow!("{place}: {e:#}"))
    }

    /// The complete config as YAML: what [`from_yaml`](Config::from_yaml) reads back as an equal one.
    pub fn resolved(&self) -> Result<String> {
        Ok(serde_norway::to_string(&self.to_mapping())?)
    }

    /// The keys in which `other` differs and that change the numbers of the training: with any of them, one run cannot
    /// go on with the other's checkpoint. The contents of the files are not looked at.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (self.to_mapping(), other.to_mapping());
        let differs = |key: &&str| {
            !WITHOUT_EFFECT_ON_NUMBERS.contains(key) && ours.get(*key) != theirs.get(*key)
        };
        Self::KEYS.iter().copied().filter(differs).collect()
    }

    /// Whether TensorBoard event files are written.
    pub fn tensorboard(&self) -> bool {
        self.report_to
            .iter()
            .any(|to| to == "all" || to == "tensorboard")
    }
}

/// The config while it is read.
#[derive(Default)]
struct Reader {
    config: Config,
    /// Whether `algorithm` was given.
    algorithm: bool,
    /// Keys of other frameworks.
    foreign: BTreeSet<String>,
}

impl Reader {
    fn file(&mut self, text: &str) -> Result<()> {
        let entries = match serde_norway::from_str(text)? {
            Value::Mapping(entries) => entries,
            Value::Null => Mapping::new(),
            other => bail!("expected keys and values, got {}", setting::shown(&other)),
        };
        for (key, value) in &entries {
            let key = key
                .as_str()
                .ok_or_else(|| anyhow!("expected a key, got {}", setting::shown(key)))?;
            self.key(key, value).map_err(|e| anyhow!("{key}: {e}"))?;
        }
        Ok(())
    }

    /// `key=value`. A value that is no legal one as YAML may be one as it stands: a folder called `2024`.
    fn assignment(&mut self, set: &str) -> Result<()> {
        let (key, text) = set.split_once('=').context("expected key=value")?;
        let value = serde_norway::from_str(text).unwrap_or_else(|_| Value::from(text));
        let as_yaml = self.key(key, &value);
        as_yaml.or_else(|e| self.key(key, &Value::from(text)).map_err(|_| e))
    }

    fn key(&mut self, key: &str, value: &Value) -> Result<()> {
        // What the Hugging Face trainer called it before.
        let key = match key {
            "evaluation_strategy" => "eval_strategy",
            key => key,
        };
        match foreign::judge(key, value) {
            Verdict::Refused(problem) => bail!(problem),
            Verdict::Neutral if !Config::KEYS.contains(&key) => return Ok(()),
            Verdict::Foreign => {
                self.foreign.insert(key.to_owned());
                return Ok(());
            }
            Verdict::Neutral | Verdict::Unlisted => {}
        }
        if self.is_left_open(key, value) {
            return Ok(());
        }
        match self.config.set(key, value) {
            Some(result) => result.map_err(anyhow::Error::msg),
            None => bail!(unknown(key)),
        }
    }

    /// Keys that `null` leaves open: the algorithm has a rule for it, TF32 a default, and the two paths must be given in
    /// the end.
    fn is_left_open(&mut self, key: &str, value: &Value) -> bool {
        match key {
            "algorithm" => {
                self.algorithm = !value.is_null();
                value.is_null()
            }
            "output_dir" | "dataset_path" | "tf32" => value.is_null(),
            _ => false,
        }
    }

    fn finish(mut self) -> Result<(Config, Vec<String>)> {
        if !self.algorithm {
            self.config.algorithm = match self.config.bias_model_path {
                Some(_) => Algorithm::ShortcutAware,
                None => Algorithm::Standard,
            };
        }
        let mut notices = check::check(&self.config)?;
        if !self.foreign.is_empty() {
            let names: Vec<_> = self.foreign.into_iter().collect();
            notices.push(format!(
                "keys of other frameworks, not used: {}",
                names.join(", ")
            ));
        }
        Ok((self.config, notices))
    }
}

fn unknown(key: &str) -> String {
    let known = Config::KEYS.iter().copied().chain(foreign::unbuilt_names());
    match nearest::nearest(key, known) {
        Some(nearest) => format!("unknown key: the nearest one is {nearest}"),
        None => "unknown key".into(),
    }
}

#[cfg(test)]
mod tests;
