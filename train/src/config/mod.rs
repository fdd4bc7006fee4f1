//! The config of a training run: a YAML file with the published key names, overridden by `--set key=value`. It is
//! complete and checked before anything is loaded.

mod check;
mod choices;
mod foreign;
mod keys;
mod setting;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_norway::{Mapping, Value};

pub use choices::{
    Algorithm, EvalStrategy, Normalization, PixelShuffle, Resume, SaveStrategy, SchedulerKind, Sfc,
};
use foreign::Verdict;
pub use keys::Config;

/// Keys that affect output, evaluation or speed, but not the trained weights. The two that split a step into batches are
/// checked by its number of rows.
const WITHOUT_EFFECT_ON_WEIGHTS: [&str; 22] = [
    "ddp_timeout",
    "eval_data",
    "eval_steps",
    "eval_strategy",
    "extend",
    "gradient_accumulation_steps",
    "logging_first_step",
    "logging_steps",
    "max_bad_fraction",
    "output_dir",
    "overwrite_output_dir",
    "per_device_eval_batch_size",
    "per_device_train_batch_size",
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
    /// Reads the file at `path`, then applies `sets` (`key=value`, the value in YAML). Returns the config, and notices
    /// for the user.
    ///
    /// # Errors
    /// Invalid YAML, an unknown key (the nearest one is named), a value of the wrong type or out of range, an
    /// unsupported feature, contradictory settings.
    pub fn load(path: impl AsRef<Path>, sets: &[String]) -> Result<(Self, Vec<String>)> {
        let path = path.as_ref();
        let place = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(place)?;
        Self::from_yaml(&text, &place(), sets)
    }

    /// Like [`load`](Config::load), for a text that messages call `place`.
    ///
    /// # Errors
    /// As [`load`](Config::load).
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

    /// The complete config as YAML; [`from_yaml`](Config::from_yaml) reads it back unchanged.
    ///
    /// # Errors
    /// The YAML writer's.
    pub fn resolved(&self) -> Result<String> {
        Ok(serde_norway::to_string(&self.to_mapping())?)
    }

    /// Keys that affect the trained weights and whose value differs in `other`: a run must not resume from a checkpoint
    /// of a config with such differences. The contents of named files are not compared.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (self.to_mapping(), other.to_mapping());
        let differs = |key: &&str| {
            !WITHOUT_EFFECT_ON_WEIGHTS.contains(key) && ours.get(*key) != theirs.get(*key)
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

const DEEPSPEED: &str = "deepspeed: not used: several processes divide the optimizer's state by themselves (docs/scaling.md)";

/// A config under construction.
#[derive(Default)]
struct Reader {
    config: Config,
    /// Whether `algorithm` was set.
    algorithm: bool,
    /// Keys of other frameworks, for a notice.
    foreign: BTreeSet<String>,
}

impl Reader {
    fn file(&mut self, text: &str) -> Result<()> {
        let mut content: Value = serde_norway::from_str(text.trim_start_matches('\u{feff}'))?;
        content.apply_merge()?;
        let entries = match content {
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

    /// Applies `key=value`. A value that is illegal as YAML is tried as a plain string, such as a folder named `2024`.
    fn assignment(&mut self, set: &str) -> Result<()> {
        let (key, text) = set.split_once('=').context("expected key=value")?;
        let value = serde_norway::from_str(text).unwrap_or_else(|_| Value::from(text));
        let as_yaml = self.key(key, &value);
        as_yaml.or_else(|e| self.key(key, &Value::from(text)).map_err(|_| e))
    }

    fn key(&mut self, key: &str, value: &Value) -> Result<()> {
        // The key's former name in the Hugging Face trainer.
        let key = match key {
            "evaluation_strategy" => "eval_strategy",
            key => key,
        };
        match foreign::classify(key, value) {
            Verdict::Refused(problem) => bail!(problem),
            Verdict::Neutral if !Config::KEYS.contains(&key) => return Ok(()),
            Verdict::Foreign => {
                self.foreign.insert(key.to_owned());
                return Ok(());
            }
            Verdict::Neutral | Verdict::Unlisted => {}
        }
        if self.is_unset(key, value) {
            return Ok(());
        }
        match self.config.set(key, value) {
            Some(result) => result.map_err(anyhow::Error::msg),
            None => bail!(unknown(key)),
        }
    }

    /// Whether `null` leaves the key unset: the algorithm then follows a rule, TF32 its default, and the two paths are
    /// still required.
    fn is_unset(&mut self, key: &str, value: &Value) -> bool {
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
        if self.foreign.remove("deepspeed") {
            notices.push(DEEPSPEED.into());
        }
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
    let known = Config::KEYS
        .iter()
        .copied()
        .chain(foreign::unsupported_names());
    match known.min_by_key(|candidate| strsim::levenshtein(key, candidate)) {
        Some(nearest) => format!("unknown key: the nearest one is {nearest}"),
        None => "unknown key".into(),
    }
}

#[cfg(test)]
mod tests;
