//! The checkpoint's probes that its bundle can be checked with.

use std::path::Path;

use anyhow::{Result, anyhow};
use seeward_models::config::Config;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS, Extent};
use seeward_models::kinds::InputMode;
use seeward_models::net::Branch;
use seeward_models::probe::{self, Probe};
use seeward_models::prompt::Prompter;

/// A checkpoint's probes, sorted by whether its bundle can use them.
#[derive(Default)]
pub(crate) struct Probes {
    pub(crate) kept: Vec<Probe>,
    /// Number of probes whose tokens differ between bundle and trainer, because their `max_length` differs.
    pub(crate) skipped: usize,
}

/// The bundle's settings for reading probes.
pub(crate) struct Reading<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) config: &'a Config,
    pub(crate) prompter: &'a Prompter,
    pub(crate) input_mode: InputMode,
    /// The `max_length` of training, with which the rewards were measured.
    pub(crate) trained_length: usize,
}

impl Probes {
    /// The probes with the rewards of `branch`.
    ///
    /// # Errors
    /// An unreadable file, or a probe without rewards of the branch.
    pub(crate) fn read(reading: &Reading, branch: Branch) -> Result<Self> {
        let mut probes = Self::default();
        for probe in probe::read(reading.folder)? {
            let probe = of_branch(probe, branch, reading.folder)?;
            match reading.is_as_trained(&probe)? {
                true => probes.kept.push(probe),
                false => probes.skipped += 1,
            }
        }
        Ok(probes)
    }
}

impl Reading<'_> {
    /// Whether the bundle reads the same tokens as the trainer: the limits are equal, or neither truncates a
    /// conversation.
    fn is_as_trained(&self, probe: &Probe) -> Result<bool> {
        if self.prompter.settings().max_length == self.trained_length {
            return Ok(true);
        }
        let images = self.images(probe)?;
        let prompt = probe.prompt.seen(self.input_mode);
        let is_whole = |response: &String| {
            let read = self.prompter.conversation(&prompt, response, &images);
            // An error: the limit truncates the image tokens.
            read.is_ok_and(|c| !c.truncated && c.ids.len() <= self.trained_length)
        };
        Ok(probe.responses.iter().all(is_whole))
    }

    /// The extent of each image that the model sees.
    fn images(&self, probe: &Probe) -> Result<Vec<Extent>> {
        let settings = &self.config.images;
        if self.config.vision.is_none() {
            return Ok(Vec::new());
        }
        if self.input_mode == InputMode::TextOnly {
            return Ok(vec![settings.white_extent()?]);
        }
        let extent = |name: &String| {
            let path = self.folder.join(name);
            let (width, height) = image::file_dimensions(&path, DEFAULT_MAX_PIXELS)?;
            let extent = settings.extent(width, height);
            Ok(extent.map_err(|e| e.at(path.display()))?)
        };
        probe.images.iter().map(extent).collect()
    }
}

fn of_branch(probe: Probe, branch: Branch, folder: &Path) -> Result<Probe> {
    let lacking = || {
        anyhow!(
            "{}: its probes have no rewards of the text-only branch",
            folder.display()
        )
    };
    let rewards = match branch {
        Branch::Main => probe.rewards,
        Branch::TextOnly => probe.text_only_rewards.ok_or_else(lacking)?,
    };
    Ok(Probe {
        rewards,
        text_only_rewards: None,
        ..probe
    })
}
