//! The source of a branch: the checkpoint that holds its weights, their names, and what the config changes.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use seeward_models::config::{Config as ModelConfig, HeadChoices, PixelLimits, Serving};
use seeward_models::image::ImageSettings;
use seeward_models::kinds::InputMode;
use seeward_models::net::{self, Branch};
use seeward_models::prompt::{PromptSettings, Prompter, Template};
use seeward_models::reading::{Reading, RewardAt};
use seeward_models::tokenizer::{Specials, Tokenizer};
use serde_json::{Value, json};
use tch::Device;

use crate::config::{Algorithm, Config, Normalization, PixelShuffle};
use crate::data::preprocess::Preprocessor;
use crate::hub;
use crate::libtorch::parameters::Parameters;
use crate::model::branch::{Model, Vision};
use crate::model::branches::Branches;
use crate::model::vocabulary::Vocabulary;

/// The source of a branch.
pub(crate) struct BranchSource {
    /// The checkpoint.
    pub(crate) folder: PathBuf,
    /// The branch that is read from it.
    pub(crate) stored: Branch,
    /// The branch of the run.
    pub(crate) branch: Branch,
    /// The stored configuration, with the run's settings.
    whole: ModelConfig,
    /// The configuration in the run: layers or vision may be removed.
    pub(crate) config: ModelConfig,
}

/// A text that different tokenizers encode differently.
const SAMPLE: &str = "<image>\n Which of the 2 is RIGHT? 图中有几只猫？ naïve — 📷 <box>";

impl Branches<BranchSource> {
    /// The main branch's tokenizer, which the text-only branch shares.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        let main = self.main.tokenizer()?;
        if let Some(text) = self
            .text
            .as_ref()
            .filter(|text| text.folder != self.main.folder)
        {
            let own = text.tokenizer()?;
            let ids = |tokenizer: &Tokenizer| tokenizer.encode(SAMPLE, Specials::Parsed);
            ensure!(
                own.vocabulary() == main.vocabulary() && ids(&own)? == ids(&main)?,
                "{}: its tokenizer gives other ids than that of {}, but both branches must share one",
                text.folder.display(),
                self.main.folder.display()
            );
        }
        Ok(main)
    }

    /// The preprocessors of the branches.
    pub(crate) fn preprocessors(&self, config: &Config) -> Result<Branches<Preprocessor>> {
        self.map(|source| source.preprocessor(config, self.tokenizer()?))
    }
}

/// The sources of a run's branches: the run's own checkpoint `resumed`, or the checkpoints that `config` names.
pub(crate) fn sources(
    config: &Config,
    resumed: Option<&Path>,
    notices: &mut Vec<String>,
) -> Result<Branches<BranchSource>> {
    let folder = match resumed {
        Some(folder) => folder.to_owned(),
        None => hub::resolve(&config.model_name_or_path)?,
    };
    let main = BranchSource::open(config, &folder, Branch::Main, Branch::Main)?;
    let (checkpoint, notice) = net::open(&folder, &main.config)?;
    notices.extend(notice);
    let stored = net::branches(&checkpoint, &main.config)?;
    let has_text = stored.contains(&Branch::TextOnly);
    if config.algorithm != Algorithm::ShortcutAware {
        let unused =
            has_text.then(|| format!("{}: its text-only branch is not used", folder.display()));
        notices.extend(unused);
        return Ok(Branches { main, text: None });
    }
    let (folder, stored) = match &config.bias_model_path {
        Some(path) if resumed.is_none() => (hub::resolve(path)?, Branch::Main),
        _ if has_text => (folder, Branch::TextOnly),
        _ => bail!(
            "{}: it has no text-only branch; set bias_model_path",
            folder.display()
        ),
    };
    let text = BranchSource::open(config, &folder, stored, Branch::TextOnly)?;
    Ok(Branches {
        main,
        text: Some(text),
    })
}

impl BranchSource {
    fn open(config: &Config, folder: &Path, stored: Branch, branch: Branch) -> Result<Self> {
        let read = ModelConfig::open_with(folder, pixel_limits(config))?;
        let own = if stored == Branch::TextOnly {
            read.text_only_branch()?
        } else {
            read
        };
        let place = |e: seeward_models::Error| e.at(folder.display());
        refuse_tile_keys(config, &own).map_err(place)?;
        let whole = own.with(overrides(config, &own)).map_err(place)?;
        let whole = whole.with_head(&head_choices(config)).map_err(place)?;
        let changed = match branch {
            Branch::Main => whole.clone(),
            Branch::TextOnly => reduced(config, &whole).map_err(place)?,
        };
        Ok(Self {
            folder: folder.to_owned(),
            stored,
            branch,
            whole,
            config: changed,
        })
    }

    /// Reads the weights and fits position embeddings to the run's tile size; the configuration follows.
    pub(crate) fn load(&mut self, parameters: &mut Parameters, device: Device) -> Result<()> {
        let (mut checkpoint, _) = net::open(&self.folder, &self.whole)?;
        if self.stored == Branch::Main {
            net::branches(&checkpoint, &self.whole)?;
        }
        net::fit_positions(&mut checkpoint, &self.config, self.stored)?;
        self.config = self.config.fitted()?;
        let names = (self.stored.prefix(), self.branch.prefix());
        let wanted = net::parameters(&self.config, self.stored);
        Ok(parameters.load(&checkpoint, &wanted, (&names.0, &names.1), device)?)
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(self.template()?.tokenizer(&self.folder)?)
    }

    fn template(&self) -> Result<Template> {
        let none = || {
            let place = self.folder.display();
            anyhow!("{place}: its config.json names no template; set conv_style")
        };
        self.config.template.ok_or_else(none)
    }

    /// Resizes the embeddings to the tokenizer's vocabulary.
    pub(crate) fn fit_vocabulary(
        &mut self,
        parameters: &mut Parameters,
        tokenizer: &Tokenizer,
        config: &Config,
    ) -> Result<()> {
        let vocabulary = Vocabulary::of(tokenizer);
        let prefix = self.branch.prefix();
        self.config = vocabulary
            .fit(parameters, &prefix, &self.config, config.seed as u64)
            .with_context(|| self.folder.display().to_string())?;
        Ok(())
    }

    /// The network over these weights.
    pub(crate) fn model(&self, parameters: &Rc<Parameters>, device: Device) -> Model {
        Model {
            branch: self.branch,
            config: self.config.clone(),
            device,
            parameters: parameters.clone(),
            vision: Vision::Trains,
            every_token: false,
            reading: Reading::default(),
        }
    }

    fn preprocessor(&self, config: &Config, tokenizer: Tokenizer) -> Result<Preprocessor> {
        let settings = PromptSettings {
            template: self.template()?,
            tokens_per_tile: self.config.tokens_per_tile(),
            max_length: config.max_length,
            literal_special_tokens: config.literal_special_tokens,
        };
        let mode = if self.branch == Branch::TextOnly {
            InputMode::TextOnly
        } else {
            input_mode(config)
        };
        let reading = Reading::of(&self.config.head.at, &tokenizer)?;
        let prompter = Prompter::new(tokenizer, settings)?;
        Ok(Preprocessor {
            reading,
            prompter,
            settings: self.config.images,
            transparency: self.config.transparency,
            mode,
            rope: self.config.text.rope.clone(),
            shared: config.share_computation,
            row_multiple: 1,
            cached: Arc::default(),
        })
    }
}

/// The configuration of the text-only branch, which may be a smaller model than the one it starts from.
fn reduced(config: &Config, whole: &ModelConfig) -> seeward_models::Result<ModelConfig> {
    let seeing = match config.text_branch_vision {
        true => whole.clone(),
        false => whole.without_vision()?,
    };
    match config.text_branch_layers {
        Some(layers) => seeing.with_layers(layers),
        None => Ok(seeing),
    }
}

/// What the run says about its score heads.
fn head_choices(config: &Config) -> HeadChoices {
    HeadChoices {
        activation: config.head_activation,
        output: config.head_output,
        at: config.reward_at.as_ref().map(|at| RewardAt::named(at)),
    }
}

fn input_mode(config: &Config) -> InputMode {
    match (config.use_text_only, config.use_image_only) {
        (true, _) => InputMode::TextOnly,
        (_, true) => InputMode::ImageOnly,
        _ => InputMode::Full,
    }
}

fn pixel_limits(config: &Config) -> PixelLimits {
    PixelLimits {
        min: config.min_pixels.map(|pixels| pixels as u64),
        max: config.max_pixels.map(|pixels| pixels as u64),
    }
}

/// Refuses keys of tiles for a model that reads whole images.
fn refuse_tile_keys(config: &Config, model: &ModelConfig) -> seeward_models::Result<()> {
    let given = [
        ("force_image_size", config.force_image_size.is_some()),
        ("down_sample_ratio", config.down_sample_ratio.is_some()),
        ("dynamic_image_size", config.dynamic_image_size.is_some()),
        ("use_thumbnail", config.use_thumbnail.is_some()),
        ("min_dynamic_patch", config.min_dynamic_patch.is_some()),
        ("max_dynamic_patch", config.max_dynamic_patch.is_some()),
        ("pad2square", config.pad2square.is_some()),
        ("ps_version", config.ps_version.is_some()),
        ("vision_select_layer", config.vision_select_layer.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) if matches!(model.images, ImageSettings::Grid(_)) => {
            let problem = "the model reads whole images (its keys: min_pixels, max_pixels)";
            Err(seeward_models::Error::invalid(problem).at(key))
        }
        _ => Ok(()),
    }
}

/// The keys of config.json that the run sets, so that export uses the settings of training.
fn overrides(config: &Config, checkpoint: &ModelConfig) -> Vec<(String, Value)> {
    let settings = [
        ("template", json!(config.conv_style)),
        ("force_image_size", json!(config.force_image_size)),
        ("downsample_ratio", json!(config.down_sample_ratio)),
        ("dynamic_image_size", json!(config.dynamic_image_size)),
        ("use_thumbnail", json!(config.use_thumbnail)),
        ("min_dynamic_patch", json!(config.min_dynamic_patch)),
        ("max_dynamic_patch", json!(config.max_dynamic_patch)),
        ("pad2square", json!(config.pad2square)),
        (
            "normalize_type",
            json!(config.normalize_type.map(Normalization::name)),
        ),
        (
            "ps_version",
            json!(config.ps_version.map(PixelShuffle::name)),
        ),
        ("select_layer", json!(config.vision_select_layer)),
    ];
    let given = settings.into_iter().filter(|(_, value)| !value.is_null());
    let mut keys: Vec<_> = given.map(|(key, value)| (key.to_owned(), value)).collect();
    let serving = Serving {
        max_length: config.max_length,
        input_mode: input_mode(config),
        literal_special_tokens: config.literal_special_tokens,
        ..Serving::default()
    };
    keys.push(("seeward".to_owned(), json!(serving)));
    if config.algorithm != Algorithm::ShortcutAware
        && checkpoint.json().get("bias_reward_config").is_some()
    {
        keys.push(("bias_reward_config".to_owned(), Value::Null));
    }
    keys
}
