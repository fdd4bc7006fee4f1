//! The identity of a run: only a run of the same identity can resume.

use anyhow::Result;
use seeward_models::forest::LAYOUT_VERSION;
use seeward_models::image::PIXELS_VERSION;
use seeward_models::sample::CarriedKeys;
use seeward_runtime::RewardModel;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::input::WINDOW_ROWS;
use super::job::Job;
use super::shard::Bounds;
use crate::arguments::EngineOptions;
use crate::image_folder::ImageFolder;
use crate::journal;

const PIXELS: &str = "pixels_version";
const SHARD: &str = "shard";
/// Keys that decide the last digits at most. Runs resume with a notice when they differ, but shards do not.
const PLATFORM: [&str; 3] = ["runtime", "engine", "cpu"];

/// Everything that decides the bytes of the output, except the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// sha256 of the bundle's manifest.
    pub(super) bundle: String,
    pub(super) options: Map<String, Value>,
}

impl Identity {
    /// # Errors
    /// The image folder does not exist.
    pub(super) fn new(job: &Job, model: &RewardModel, shard: Option<&Bounds>) -> Result<Self> {
        let (engine, images, carried) = decisive(job);
        let (batch_tokens, max_image_pixels) = decisive_for_engine(engine);
        let mut options = vec![
            ("provider", json!(model.device().provider())),
            ("layout_version", json!(LAYOUT_VERSION)),
            (PIXELS, json!(PIXELS_VERSION)),
            ("input_mode", json!(model.input_mode())),
            ("batch_tokens", json!(batch_tokens)),
            ("window_rows", json!(WINDOW_ROWS)),
            ("max_image_pixels", json!(max_image_pixels)),
            ("image_root", json!(images.identity()?)),
            ("image_root_fenced", json!(images.is_fenced())),
        ];
        // Absent on the CPU, where nothing changed when rows on GPUs became multiples.
        if let row_multiple @ 2.. = model.device().row_multiple() {
            options.push(("row_multiple", json!(row_multiple)));
        }
        // Absent without such keys, as in the files of versions without the flag.
        let carried: Vec<&str> = carried.names().collect();
        if !carried.is_empty() {
            options.push(("carry", json!(carried)));
        }
        let platform = model.platform()?;
        let values = [platform.runtime, &*platform.engine, &*platform.cpu];
        options.extend(PLATFORM.into_iter().zip(values.map(|value| json!(value))));
        options.extend(shard.map(|bounds| (SHARD, json!(bounds))));
        let options = options.into_iter();
        let options = options.map(|(name, value)| (name.to_owned(), value));
        Ok(Self {
            bundle: model.bundle().hash().to_owned(),
            options: options.collect(),
        })
    }

    /// The part of the input, if it is one.
    ///
    /// # Errors
    /// A damaged progress file.
    pub(super) fn shard(&self) -> Result<Option<Bounds>> {
        let bounds = self.options.get(SHARD).cloned();
        Ok(bounds.map(serde_json::from_value).transpose()?)
    }

    /// The identity of one run over the whole input.
    pub(super) fn without_shard(&self) -> Self {
        let mut whole = self.clone();
        whole.options.remove(SHARD);
        whole
    }

    /// What differs from another shard, if it is of another run or input.
    ///
    /// # Errors
    /// A damaged progress file.
    pub(super) fn difference_of_shards(&self, other: &Self) -> Result<Option<String>> {
        let input = |identity: &Self| -> Result<Option<String>> {
            Ok(identity.shard()?.map(|bounds| bounds.input))
        };
        if input(self)? != input(other)? {
            return Ok(Some("the input has changed".to_owned()));
        }
        Ok(self
            .without_shard()
            .first_difference(&other.without_shard(), &[]))
    }

    /// The first difference in the bundle and the options but for those `ignored`.
    fn first_difference(&self, before: &Self, ignored: &[&str]) -> Option<String> {
        if self.bundle != before.bundle {
            return Some("the bundle has changed".to_owned());
        }
        let [was, is] = [before, self].map(Self::pixels_version);
        if was != is {
            return Some(format!(
                "the rows before were scored by a version that reads images otherwise: pixels_version was {was} and is {is}"
            ));
        }
        let is_compared = |(name, _): &(&String, &Value)| !ignored.contains(&name.as_str());
        let changed = |(name, now): (&String, &Value)| match before.options.get(name) {
            Some(was) if was == now => None,
            Some(was) => Some(format!("{name} was {was} and is {now}")),
            None => Some(format!("{name} was not set and is {now}")),
        };
        let gone = || {
            let is_gone = |(name, _): &(&String, &Value)| !self.options.contains_key(*name);
            let mut options = before.options.iter().filter(is_compared);
            let (name, was) = options.find(is_gone)?;
            Some(format!("{name} was {was} and is not set"))
        };
        let mut options = self.options.iter().filter(is_compared);
        options.find_map(changed).or_else(gone)
    }

    /// 1 in the files of versions without the field.
    fn pixels_version(&self) -> u64 {
        let version = self.options.get(PIXELS).and_then(Value::as_u64);
        version.unwrap_or(1)
    }
}

impl journal::Identity for Identity {
    /// The first difference from `before`.
    fn difference(&self, before: &Self) -> Option<String> {
        let ignored: &[&str] = match self.options.contains_key(SHARD) {
            true => &[],
            false => &PLATFORM,
        };
        self.first_difference(before, ignored)
    }

    fn notice(&self, before: &Self) -> Option<String> {
        let changed = PLATFORM.into_iter().find_map(|name| {
            let (was, is) = (before.options.get(name)?, self.options.get(name)?);
            (was != is).then(|| format!("{name} was {was} and is {is}"))
        })?;
        Some(format!(
            "rows before and after may differ in their last digits: {changed}"
        ))
    }
}

/// The options that decide bytes. Lists all of them, so that a new one does not compile before this is decided for it.
fn decisive(job: &Job) -> (&EngineOptions, &ImageFolder, &CarriedKeys) {
    let Job {
        engine,
        images,
        carried,
        // Recorded by content: the bundle's hash in `Identity`, the input's in `Progress`, a shard's bounds by the caller.
        model: _,
        input: _,
        shard: _,
        // Devices of one kind write the same bytes; `provider` records the kind.
        devices: _,
        // Without effect on bytes.
        output: _,
        resume: _,
        stats: _,
    } = job;
    (engine, images, carried)
}

/// The same for the engine: `batch_tokens` and `max_image_pixels`.
fn decisive_for_engine(engine: &EngineOptions) -> (usize, u64) {
    let EngineOptions {
        batch_tokens,
        max_image_pixels,
        // Recorded after combination with the bundle's mode: `RewardModel::input_mode`.
        input_mode: _,
        // Without effect on bytes.
        threads: _,
        cache_dir: _,
        gpu_memory_limit: _,
    } = engine;
    (*batch_tokens, *max_image_pixels)
}
