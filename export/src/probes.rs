//! The probes of a checkpoint that its bundle can be held against.

use std::path::Path;

use anyhow::{Result, anyhow};
use seeward_models::config::Config;
use seeward_models::image::{self, DEFAULT_MAX_PIXELS};
use seeward_models::kinds::InputMode;
use seeward_models::net::Branch;
use seeward_models::probe::{self, Probe};
use seeward_models::prompt::Prompter;

/// Which of a checkpoint's probes its bundle carries.
#[derive(Default)]
pub(crate) struct Probes {
    pub(crate) kept: Vec<Probe>,
    /// Those that the bundle reads other tokens of than the trainer did, because its `max_length` is another.
    pub(crate) left_out: usize,
}

/// How a bundle will read its probes.
pub(crate) struct Reading<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) config: &'a Config,
    pub(crate) prompter: &'a Prompter,
    pub(crate) input_mode: InputMode,
    /// The `max_length` that the rewards were measured with.
    pub(crate) trained_length: usize,
}

impl Probes {
    /// The probes with the rewards of `branch`, as far as the bundle reads what the trainer read.
    pub(crate) fn read(reading: &Reading, branch: Branch) -> Result<Self> {
        let mut probes = Self::default();
        for probe in probe::read(reading.folder)? {
            let probe = of_branch(probe, branch, reading.folder)?;
            match reading.is_as_trained(&probe)? {
                true => probes.kept.push(probe),
                false => probes.left_out += 1,
            }
        }
        Ok(probes)
    }
}

impl Reading<'_> {
    /// Whether neither of two different limits cuts the probe's conversations.
    fn is_as_trained(&self, probe: &Probe) -> Result<bool> {
        if self.prompter.settings().max_length == self.trained_length {
            return Ok(true);
        }
        let tiles = self.tiles(probe)?;
        let prompt = match self.input_mode {
            InputMode::ImageOnly => "",
            InputMode::Full | InputMode::TextOnly => &probe.prompt,
        };
        let is_whole = |response: &String| {
            let read = self.prompter.conversation(prompt, response, &tiles);
            // An error: the limit cuts the image tokens.
            read.is_ok_and(|c| !c.truncated && c.ids.len() <= self.trained_length)
        };
        Ok(probe.responses.iter().all(is_whole))
    }

    /// The tiles of each picture that the model sees.
    fn tiles(&self, probe: &Probe) -> Result<Vec<usize>> {
        if self.config.vision.is_none() {
            return Ok(Vec::new());
        }
        if self.input_mode == InputMode::TextOnly {
            return Ok(vec![1]);
        }
        let count = |name: &String| {
            let path = self.folder.join(name);
            let (width, height) = image::file_dimensions(&path, DEFAULT_MAX_PIXELS)?;
            Ok(image::tile_count(width, height, &self.config.tiles))
        };
        probe.images.iter().map(count).collect()
    }
}

fn of_branch(probe: Probe, branch: Branch, folder: &Path) -> Result<Probe> {
    let lacking = || anyhow!("{}: its probes lack the text-only branch", folder.display());
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
