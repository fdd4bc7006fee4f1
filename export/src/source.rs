//! One branch of the checkpoint to export, opened and checked.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, bail};
use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::{Config, RewardScale, Serving};
use seeward_models::kinds::InputMode;
use seeward_models::net::{self, Branch};
use seeward_models::prompt::{PromptSettings, Prompter};
use seeward_models::tokenizer::Tokenizer;

use crate::options::Options;
use crate::probes::{Probes, Reading};

/// One branch of a checkpoint, and its settings for serving.
pub(crate) struct Source {
    pub(crate) checkpoint: Rc<Checkpoint>,
    pub(crate) branch: Branch,
    pub(crate) config: Config,
    pub(crate) prompter: Prompter,
    pub(crate) input_mode: InputMode,
    pub(crate) reward_scale: Option<RewardScale>,
    pub(crate) probes: Probes,
    pub(crate) notice: Option<String>,
}

impl Source {
    /// Opens the checkpoint.
    ///
    /// # Errors
    /// A checkpoint that is not a reward model, lacks the branch, or does not fit its configuration.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let folder = &options.checkpoint;
        let whole = Config::open(folder)?;
        let (mut checkpoint, notice) = net::open(folder)?;
        check_branch(folder, &checkpoint, &whole, options.branch)?;
        let serving = whole.serving().map_err(|e| e.at(folder.display()))?;
        let (config, input_mode, reward_scale) = match options.branch {
            Branch::Main => (whole, serving.input_mode, serving.reward_scale),
            Branch::TextOnly => {
                let scale = serving.text_only_reward_scale;
                (whole.text_only_branch()?, InputMode::TextOnly, scale)
            }
        };
        net::fit_positions(&mut checkpoint, &config, options.branch)?;
        let prompter = prompter(folder, &config, &serving, options.max_length)?;
        let reading = Reading {
            folder,
            config: &config,
            prompter: &prompter,
            input_mode,
            trained_length: serving.max_length,
        };
        Ok(Self {
            probes: Probes::read(&reading, options.branch)?,
            notice,
            prompter,
            checkpoint: Rc::new(checkpoint),
            branch: options.branch,
            config,
            input_mode,
            reward_scale,
        })
    }
}

fn check_branch(
    folder: &Path,
    checkpoint: &Checkpoint,
    config: &Config,
    branch: Branch,
) -> Result<()> {
    let (place, prefix) = (folder.display(), branch.prefix());
    if !net::branches(checkpoint, config)?.contains(&branch) {
        bail!(
            "{place}: no text-only branch (no tensor {prefix}*); checkpoints of shortcut-aware training have one"
        );
    }
    if !checkpoint.contains(&format!("{prefix}{}", net::SCORE_HEAD)) {
        bail!(
            "{place}: no tensor {prefix}{}: this checkpoint has no reward head; train it as a reward model first",
            net::SCORE_HEAD
        );
    }
    Ok(())
}

/// The runtime's prompts for this checkpoint; created here so that an unsuitable tokenizer is reported at export.
fn prompter(
    folder: &Path,
    config: &Config,
    serving: &Serving,
    max_length: Option<usize>,
) -> Result<Prompter> {
    let Some(template) = config.template else {
        bail!(
            "{}: config.json names no conversation template; add \"template\": \"…\" with the template of training",
            folder.display()
        );
    };
    let tokenizer = Tokenizer::open(folder)?;
    check_vocabulary(folder, &tokenizer, config)?;
    let settings = PromptSettings {
        template,
        tokens_per_tile: config.tokens_per_tile(),
        max_length: max_length.unwrap_or(serving.max_length),
        literal_special_tokens: serving.literal_special_tokens,
    };
    Ok(Prompter::new(tokenizer, settings).map_err(|e| e.at(folder.display()))?)
}

fn check_vocabulary(folder: &Path, tokenizer: &Tokenizer, config: &Config) -> Result<()> {
    if tokenizer.vocabulary() > config.text.vocabulary {
        let hint = match tokenizer.new_tokens() {
            0 => String::new(),
            new => format!(
                " ({new} ids are of image tokens that no file names: training adds their rows)"
            ),
        };
        bail!(
            "{}: the tokenizer has ids up to {}, the embedding table only {} rows{hint}",
            folder.display(),
            tokenizer.vocabulary() - 1,
            config.text.vocabulary
        );
    }
    Ok(())
}
