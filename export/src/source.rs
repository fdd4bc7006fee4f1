//! One branch of the checkpoint to export, opened and checked.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, bail};
use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::{Config, RewardScale, Serving};
use seeward_models::kinds::InputMode;
use seeward_models::net::{self, Branch};
use seeward_models::prompt::{PromptSettings, Prompter, Template};
use seeward_models::reading;
use seeward_models::tokenizer::Tokenizer;
use serde_json::json;

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
        let whole = opened(options)?;
        let (mut checkpoint, notice) = net::open(folder, &whole)?;
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

/// The configuration, with what the options say about it.
fn opened(options: &Options) -> Result<Config> {
    let read = Config::open_with(&options.checkpoint, options.pixels)?;
    let named = match options.template {
        None => read,
        Some(template) => read.with([("template".to_owned(), json!(template))])?,
    };
    let head = named.with_head(&options.head);
    Ok(head.map_err(|e| e.at(options.checkpoint.display()))?)
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
    if config.head.is_drawn() && !checkpoint.contains(&format!("{prefix}{}", net::SCORE_HEAD)) {
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
        let names: Vec<_> = Template::names().collect();
        bail!(
            "{}: config.json names no conversation template, and the folder's chat template is not a known one; name that of \
             training with --template ({})",
            folder.display(),
            names.join(", ")
        );
    };
    let tokenizer = template.tokenizer(folder)?;
    check_vocabulary(folder, &tokenizer, config)?;
    reading::Reading::of(&config.head.at, &tokenizer).map_err(|e| e.at(folder.display()))?;
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
