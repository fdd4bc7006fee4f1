//! The identity of a run: only a run of the same identity can resume.

use anyhow::Result;
use seeward_models::forest::LAYOUT_VERSION;
use seeward_models::sample::CarriedKeys;
use seeward_runtime::RewardModel;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::job::Job;
use super::window::WINDOW_ROWS;
use crate::arguments::EngineOptions;
use crate::image_folder::ImageFolder;
use crate::journal;

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
    pub(super) fn new(job: &Job, model: &RewardModel) -> Result<Self> {
        let (engine, images, carried) = decisive(job);
        let (batch_tokens, max_image_pixels) = decisive_for_engine(engine);
        let mut options = vec![
            ("provider", json!(model.device().provider())),
            ("layout_version", json!(LAYOUT_VERSION)),
            ("input_mode", json!(model.input_mode())),
            ("batch_tokens", json!(batch_tokens)),
            ("window_rows", json!(WINDOW_ROWS)),
            ("max_image_pixels", json!(max_image_pixels)),
            ("image_root", json!(images.identity()?)),
            ("image_root_fenced", json!(images.is_fenced())),
        ];
        // Absent without such keys, as in the files of versions without the flag.
        let carried: Vec<&str> = carried.names().collect();
        if !carried.is_empty() {
            options.push(("carry", json!(carried)));
        }
        let options = options.into_iter();
        let options = options.map(|(name, value)| (name.to_owned(), value));
        Ok(Self {
            bundle: model.bundle().hash().to_owned(),
            options: options.collect(),
        })
    }
}

impl journal::Identity for Identity {
    /// The first difference from `before`.
    fn difference(&self, before: &Self) -> Option<String> {
        if self.bundle != before.bundle {
            return Some("the bundle has changed".to_owned());
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

/// The options that decide bytes. Lists all of them, so that a new one does not compile before this is decided for it.
fn decisive(job: &Job) -> (&EngineOptions, &ImageFolder, &CarriedKeys) {
    let Job {
        engine,
        images,
        carried,
        // Recorded by content: the bundle's hash in `Identity`, the input's in `Progress`.
        model: _,
        input: _,
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
