//! Probes: rows whose rewards every checkpoint holds, so that export and serving can be compared with training.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use seeward_models::image::{Extent, PIXELS_VERSION};
use seeward_models::probe::{self, PROBE_FOLDER, Probe};
use seeward_models::sample::{ImageRef, Pair};
use tch::{Kind, Tensor, no_grad};

use crate::data::inputs::Inputs;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::{Row, Rows, Samples};
use crate::model::branch::Model;
use crate::model::branches::Branches;

/// Number of probes.
const PROBES: usize = 8;
/// Number of rows from which probes are chosen.
const CANDIDATES: usize = 64;

/// The chosen rows.
pub(crate) struct Probes(Vec<Chosen>);

struct Chosen {
    place: String,
    pair: Pair,
    /// Names in the probe folder and contents.
    images: Vec<(String, Vec<u8>)>,
    /// The row preprocessed for both branches, by itself: so that more rows take no more memory.
    inputs: Branches<Inputs>,
}

impl Probes {
    /// No probes, for a model without a reward head.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Chooses rows evenly over the whole file and over numbers of tiles, the largest among them. Rows whose two responses see
    /// different images, and rows that cannot be preprocessed, are skipped.
    ///
    /// # Errors
    /// The file of the rows, or an image, cannot be read.
    pub(crate) fn choose(rows: &Rows, preprocessors: &Branches<Preprocessor>) -> Result<Self> {
        let Samples::Pairs(candidates) = rows.read(&spread(rows.count(), CANDIDATES))? else {
            return Ok(Self::none());
        };
        let inputs = |row: &Row<Pair>| {
            let inputs = preprocessors.map(|preprocessor| Ok(preprocessor.pairs(&[row])?));
            inputs.ok()
        };
        let rows = in_order(&candidates, &preprocessors.main).into_iter();
        let good = rows.filter_map(|row| Some((row, inputs(row)?)));
        let read =
            |(index, (row, inputs)): (usize, (&Row<Pair>, _))| Chosen::read(index, row, inputs);
        let chosen = good.take(PROBES).enumerate().map(read);
        Ok(Self(chosen.collect::<Result<_>>()?))
    }

    /// Size of the images in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let images = self.0.iter().flat_map(|row| &row.images);
        images.map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Writes rows, images and the rewards that the current weights give.
    ///
    /// # Errors
    /// A reward is not finite, so the weights are useless; or an I/O error.
    pub(crate) fn write(&self, models: &Branches<Model>, checkpoint: &Path) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let folder = checkpoint.join(PROBE_FOLDER);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for (name, bytes) in self.0.iter().flat_map(|row| &row.images) {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        let probes = self.0.iter().map(|row| row.measure(models));
        let probes: Vec<Probe> = probes.collect::<Result<_>>()?;
        Ok(probe::write(checkpoint, &probes)?)
    }
}

impl Chosen {
    fn read(index: usize, row: &Row<Pair>, inputs: Branches<Inputs>) -> Result<Self> {
        let pair = &row.sample;
        let image = |(place, image): (usize, &ImageRef)| {
            let bytes = image.content().with_context(|| image.to_string())?;
            let extension = match image {
                ImageRef::File(path) => Path::new(path).extension().unwrap_or_default(),
                ImageRef::Bytes(_) => OsStr::new("image"),
            };
            let name = format!("{index}-{place}.{}", extension.to_string_lossy());
            Ok((name, bytes.into_owned()))
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
            inputs,
        })
    }

    /// The row with the rewards that the current weights give.
    fn measure(&self, models: &Branches<Model>) -> Result<Probe> {
        let text = models.text.as_ref().zip(self.inputs.text.as_ref());
        let text = text.map(|(model, inputs)| self.rewards(model, inputs));
        let images = self.images.iter();
        Ok(Probe {
            prompt: self.pair.prompt.clone(),
            images: images
                .map(|(name, _)| format!("{PROBE_FOLDER}/{name}"))
                .collect(),
            responses: vec![self.pair.chosen.clone(), self.pair.rejected.clone()],
            pixels_version: PIXELS_VERSION,
            rewards: self.rewards(&models.main, &self.inputs.main)?,
            text_only_rewards: text.transpose()?,
        })
    }

    /// Rewards of the two responses, computed in fp32 with the saved weights.
    fn rewards(&self, model: &Model, inputs: &Inputs) -> Result<Vec<f32>> {
        let rewards: Tensor = no_grad(|| model.exact_rewards(inputs))?;
        let rewards: Vec<f32> = Vec::try_from(rewards.to_kind(Kind::Float))?;
        ensure!(
            rewards.iter().all(|reward| reward.is_finite()),
            "{}: the rewards of this row are not finite: {rewards:?} (is learning_rate too high?)",
            self.place
        );
        Ok(rewards)
    }
}

/// The candidates, best first: a few that are even over numbers of tiles, then the others.
fn in_order<'a>(candidates: &'a [Row<Pair>], preprocessor: &Preprocessor) -> Vec<&'a Row<Pair>> {
    let same = candidates
        .iter()
        .filter(|row| row.sample.chosen_images == row.sample.rejected_images);
    let mut counted: Vec<_> = same
        .filter_map(|row| Some((tiles(row, preprocessor)?, row)))
        .collect();
    counted.sort_by_key(|(tiles, _)| Reverse(*tiles));
    let first = spread(counted.len(), PROBES);
    let rest = (0..counted.len()).filter(|index| !first.contains(index));
    let order = first.iter().copied().chain(rest);
    order.map(|index| counted[index].1).collect()
}

/// At most `most` of the numbers below `count`, evenly over them.
fn spread(count: usize, most: usize) -> Vec<usize> {
    let most = most.min(count);
    (0..most).map(|index| index * count / most).collect()
}

/// Number of tiles of a row's images, or of tokens in grids; `None` if an image cannot be read.
fn tiles(row: &Row<Pair>, preprocessor: &Preprocessor) -> Option<usize> {
    let images = row.sample.chosen_images.iter();
    images
        .map(|path| preprocessor.extent(path).ok().map(Extent::units))
        .sum()
}
