//! Probes: rows whose rewards every checkpoint holds, so that export and serving can be compared with training.

use std::cmp::Reverse;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use seeward_models::image::PIXELS_VERSION;
use seeward_models::probe::{self, PROBE_FOLDER, Probe};
use seeward_models::sample::Pair;
use tch::{Kind, Tensor, no_grad};

use crate::data::inputs::Inputs;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::{Row, Rows, Samples};
use crate::model::branch::Model;
use crate::model::branches::Branches;

/// Number of probes.
const PROBES: usize = 4;
/// Number of rows from which probes are chosen.
const CANDIDATES: usize = 64;

/// The chosen rows, preprocessed for both branches.
pub(crate) struct Probes {
    rows: Vec<Chosen>,
    inputs: Option<Branches<Inputs>>,
}

struct Chosen {
    place: String,
    pair: Pair,
    /// Names in the probe folder and contents.
    images: Vec<(String, Vec<u8>)>,
}

impl Probes {
    /// No probes, for a model without a reward head.
    pub(crate) fn none() -> Self {
        Self {
            rows: Vec::new(),
            inputs: None,
        }
    }

    /// Chooses the rows with the most tiles among the first ones. Rows whose two responses see different images, and rows
    /// that cannot be preprocessed, are skipped.
    ///
    /// # Errors
    /// The file of the rows, or an image, cannot be read.
    pub(crate) fn choose(rows: &Rows, preprocessors: &Branches<Preprocessor>) -> Result<Self> {
        let first: Vec<usize> = (0..rows.count().min(CANDIDATES)).collect();
        let Samples::Pairs(first) = rows.read(&first)? else {
            return Ok(Self::none());
        };
        let same = first
            .iter()
            .filter(|row| row.sample.chosen_images == row.sample.rejected_images);
        let counted = same.filter_map(|row| Some((tiles(row, &preprocessors.main)?, row)));
        let mut counted: Vec<_> = counted.collect();
        counted.sort_by_key(|(tiles, _)| Reverse(*tiles));
        let is_good = |row: &&Row<Pair>| {
            preprocessors
                .each()
                .all(|preprocessor| preprocessor.pairs(&[row]).is_ok())
        };
        let rows = counted.into_iter().map(|(_, row)| row);
        let chosen: Vec<&Row<Pair>> = rows.filter(is_good).take(PROBES).collect();
        if chosen.is_empty() {
            return Ok(Self::none());
        }
        let inputs = preprocessors.map(|preprocessor| Ok(preprocessor.pairs(&chosen)?))?;
        let read = |(index, row): (usize, &&Row<Pair>)| Chosen::read(index, row);
        let rows = chosen.iter().enumerate().map(read).collect::<Result<_>>()?;
        Ok(Self {
            rows,
            inputs: Some(inputs),
        })
    }

    /// Size of the images in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let images = self.rows.iter().flat_map(|row| &row.images);
        images.map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Writes rows, images and the rewards that the current weights give.
    ///
    /// # Errors
    /// A reward is not finite, so the weights are useless; or an I/O error.
    pub(crate) fn write(&self, models: &Branches<Model>, checkpoint: &Path) -> Result<()> {
        let Some(inputs) = &self.inputs else {
            return Ok(());
        };
        let folder = checkpoint.join(PROBE_FOLDER);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for (name, bytes) in self.rows.iter().flat_map(|row| &row.images) {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        let main = self.rewards(&models.main, &inputs.main)?;
        let text = match (&models.text, &inputs.text) {
            (Some(model), Some(inputs)) => Some(self.rewards(model, inputs)?),
            _ => None,
        };
        let probe = |(index, row): (usize, &Chosen)| {
            row.probe(main[index], text.as_ref().map(|text| text[index]))
        };
        let probes: Vec<Probe> = self.rows.iter().enumerate().map(probe).collect();
        Ok(probe::write(checkpoint, &probes)?)
    }

    /// Rewards of the two responses of each row, computed in fp32 with the saved weights.
    fn rewards(&self, model: &Model, inputs: &Inputs) -> Result<Vec<[f32; 2]>> {
        let rewards: Tensor = no_grad(|| model.exact_rewards(inputs))?;
        let flat: Vec<f32> = Vec::try_from(rewards.to_kind(Kind::Float))?;
        let pairs: Vec<[f32; 2]> = flat
            .chunks_exact(2)
            .map(|pair| [pair[0], pair[1]])
            .collect();
        for (row, pair) in self.rows.iter().zip(&pairs) {
            ensure!(
                pair.iter().all(|reward| reward.is_finite()),
                "{}: the rewards of this row are not finite: {pair:?} (is learning_rate too high?)",
                row.place
            );
        }
        Ok(pairs)
    }
}

impl Chosen {
    fn read(index: usize, row: &Row<Pair>) -> Result<Self> {
        let pair = &row.sample;
        let image = |(place, path): (usize, &String)| {
            let bytes = fs::read(path).with_context(|| path.clone())?;
            let extension = Path::new(path)
                .extension()
                .unwrap_or_default()
                .to_string_lossy();
            Ok((format!("{index}-{place}.{extension}"), bytes))
        };
        let images = pair
            .chosen_images
            .iter()
            .enumerate()
            .map(image)
            .collect::<Result<_>>()?;
        Ok(Self {
            place: row.place(),
            pair: pair.clone(),
            images,
        })
    }

    fn probe(&self, rewards: [f32; 2], text_only: Option<[f32; 2]>) -> Probe {
        Probe {
            prompt: self.pair.prompt.clone(),
            images: self
                .images
                .iter()
                .map(|(name, _)| format!("{PROBE_FOLDER}/{name}"))
                .collect(),
            responses: vec![self.pair.chosen.clone(), self.pair.rejected.clone()],
            pixels_version: PIXELS_VERSION,
            rewards: rewards.to_vec(),
            text_only_rewards: text_only.map(Vec::from),
        }
    }
}

/// Number of tiles of a row's images; `None` if an image cannot be read.
fn tiles(row: &Row<Pair>, preprocessor: &Preprocessor) -> Option<usize> {
    let images = row.sample.chosen_images.iter();
    images.map(|path| preprocessor.tile_count(path).ok()).sum()
}
