//! From the config to branches that are ready to train: checkpoints read strictly, score heads drawn where there are
//! none, weights frozen by name.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use seeward_models::bundle::InputMode;
use seeward_models::checkpoint::Checkpoint;
use seeward_models::config::{Config as ModelConfig, Serving};
use seeward_models::net::{self, Branch, SCORE_HEAD};
use seeward_models::prompt::{PromptSettings, Prompter};
use seeward_models::tokenizer::{Specials, Tokenizer};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::adapter::Apart;
use crate::batch::View;
use crate::config::{Algorithm, Config};
use crate::features::Features;
use crate::hub;
use crate::lora;
use crate::model::{Model, Vision};
use crate::parameters::Parameters;
use crate::precision::{Precision, allow_tf32};
use crate::random::Stream;
use crate::vocabulary::Vocabulary;

/// Something that each branch has.
pub struct Branches<T> {
    /// Of the branch that is deployed.
    pub main: T,
    /// Of the shortcut proxy of the shortcut-aware algorithm.
    pub text: Option<T>,
}

/// Everything that a run starts from.
pub struct Start {
    /// The networks.
    pub models: Branches<Model>,
    /// How they see rows.
    pub views: Branches<View>,
    /// The weights of both, by their names in the checkpoint.
    pub parameters: Rc<Parameters>,
    /// The tokenizer's files, to be copied into checkpoints.
    pub tokenizer_files: Vec<PathBuf>,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// One branch as it is read: where from, and under which names.
struct Source {
    folder: PathBuf,
    stored: Branch,
    branch: Branch,
    config: ModelConfig,
}

impl Start {
    /// Reads the checkpoints that `config` names; `resumed` is the run's own checkpoint to go on from, instead.
    pub fn load(config: &Config, resumed: Option<&Path>, device: Device) -> Result<Self> {
        let mut notices = Vec::new();
        let mut sources = sources(config, resumed, &mut notices)?;
        let scale = lora::scale(config);
        let mut parameters = Parameters::new(Precision::of(config)).with_lora_scale(scale);
        notices.extend(allow_tf32(config.tf32, device));
        let tokenizer = sources.tokenizer()?;
        for source in sources.each_mut() {
            source.load(&mut parameters, device)?;
            source.fit_vocabulary(&mut parameters, &tokenizer, config)?;
            prepare_head(&mut parameters, config, source, device, &mut notices)?;
        }
        match resumed {
            Some(folder) => restore_additions(&mut parameters, config, &sources, folder, device)?,
            None => {
                for source in sources.each() {
                    let model = (&source.config, source.branch);
                    lora::draw(&mut parameters, config, model, device)?;
                }
            }
        }
        parameters.train_where(|name| trains(config, &sources, name));
        let parameters = Rc::new(parameters);
        let tokenizer_files = tokenizer.files().to_vec();
        let views = sources.views(config)?;
        let mut models = sources.map(|source| Ok(source.model(&parameters, device)))?;
        for (model, view) in models.each_mut().zip(views.each()) {
            model.vision = vision(config, model, view);
        }
        Ok(Self {
            models,
            views,
            parameters,
            tokenizer_files,
            notices,
        })
    }
}

/// How the branches of a run from the start see rows. No weights are read.
///
/// # Errors
/// As [`Start::load`].
pub fn views(config: &Config) -> Result<Branches<View>> {
    sources(config, None, &mut Vec::new())?.views(config)
}

impl<T> Branches<T> {
    /// The main branch's, then the text-only one's if there is one.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.main).chain(&self.text)
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.main).chain(&mut self.text)
    }

    /// The same of each branch.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map<U>(&self, f: impl Fn(&T) -> Result<U>) -> Result<Branches<U>> {
        Ok(Branches {
            main: f(&self.main)?,
            text: self.text.as_ref().map(f).transpose()?,
        })
    }
}

/// Ids of a tokenizer differ from those of another one here.
const SAMPLE: &str = "<image>\n Which of the 2 is RIGHT? 图中有几只猫？ naïve — 📷 <box>";

impl Branches<Source> {
    /// The main branch's tokenizer, which the text-only branch shares.
    fn tokenizer(&self) -> Result<Tokenizer> {
        let main = Tokenizer::open(&self.main.folder)?;
        if let Some(text) = self
            .text
            .as_ref()
            .filter(|text| text.folder != self.main.folder)
        {
            let own = Tokenizer::open(&text.folder)?;
            let ids = |tokenizer: &Tokenizer| tokenizer.encode(SAMPLE, Specials::Parsed);
            ensure!(
                own.vocabulary() == main.vocabulary() && ids(&own)? == ids(&main)?,
                "{}: its tokenizer gives other ids than that of {}, but both branches share one",
                text.folder.display(),
                self.main.folder.display()
            );
        }
        Ok(main)
    }

    fn views(&self, config: &Config) -> Result<Branches<View>> {
        self.map(|source| source.view(config, self.tokenizer()?))
    }
}

fn sources(
    config: &Config,
    resumed: Option<&Path>,
    notices: &mut Vec<String>,
) -> Result<Branches<Source>> {
    let folder = match resumed {
        Some(folder) => folder.to_owned(),
        None => hub::resolve(&config.model_name_or_path)?,
    };
    let main = Source::open(config, &folder, Branch::Main, Branch::Main)?;
    let stored = net::branches(&Checkpoint::open(&folder)?, &main.config)?;
    let has_text = stored.contains(&Branch::TextOnly);
    if config.algorithm != Algorithm::ShortcutAware {
        if has_text {
            notices.push(format!(
                "{}: its text-only branch is left out",
                folder.display()
            ));
        }
        return Ok(Branches { main, text: None });
    }
    let text = match &config.bias_model_path {
        Some(path) if resumed.is_none() => {
            Source::open(config, &hub::resolve(path)?, Branch::Main, Branch::TextOnly)?
        }
        _ if has_text => Source::open(config, &folder, Branch::TextOnly, Branch::TextOnly)?,
        _ => bail!(
            "{}: it has no text-only branch; set bias_model_path",
            folder.display()
        ),
    };
    Ok(Branches {
        main,
        text: Some(text),
    })
}

impl Source {
    fn open(config: &Config, folder: &Path, stored: Branch, branch: Branch) -> Result<Self> {
        let read = ModelConfig::open(folder)?;
        let own = if stored == Branch::TextOnly {
            read.text_only_branch()?
        } else {
            read
        };
        let changed = own
            .with(overrides(config, &own))
            .map_err(|e| e.at(folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            stored,
            branch,
            config: changed,
        })
    }

    /// Reads the weights, fitted to the run's tiles; from then on the configuration is that of the fitted model.
    fn load(&mut self, parameters: &mut Parameters, device: Device) -> Result<()> {
        let mut checkpoint = Checkpoint::open(&self.folder)?;
        if self.stored == Branch::Main {
            net::branches(&checkpoint, &self.config)?;
        }
        net::fit_positions(&mut checkpoint, &self.config, self.stored)?;
        self.config = self.config.fitted()?;
        let names = (self.stored.prefix(), self.branch.prefix());
        let wanted = net::parameters(&self.config, self.stored);
        Ok(parameters.load(&checkpoint, &wanted, (&names.0, &names.1), device)?)
    }

    fn fit_vocabulary(
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

    fn model(&self, parameters: &Rc<Parameters>, device: Device) -> Model {
        Model {
            branch: self.branch,
            config: self.config.clone(),
            device,
            parameters: parameters.clone(),
            vision: Vision::Trains,
        }
    }

    fn view(&self, config: &Config, tokenizer: Tokenizer) -> Result<View> {
        let Some(template) = self.config.template else {
            bail!(
                "{}: its config.json names no template; set conv_style",
                self.folder.display()
            );
        };
        let settings = PromptSettings {
            template,
            tokens_per_tile: self.config.tokens_per_tile(),
            max_length: config.max_length,
            literal_special_tokens: config.literal_special_tokens,
        };
        let mode = if self.branch == Branch::TextOnly {
            InputMode::TextOnly
        } else {
            input_mode(config)
        };
        let prompter = Prompter::new(tokenizer, settings)?;
        Ok(View {
            prompter,
            tiles: self.config.tiles,
            mode,
            rope: self.config.text.rope.clone(),
            shared: config.share_computation,
            known: Arc::default(),
        })
    }
}

fn input_mode(config: &Config) -> InputMode {
    match (config.use_text_only, config.use_image_only) {
        (true, _) => InputMode::TextOnly,
        (_, true) => InputMode::ImageOnly,
        _ => InputMode::Full,
    }
}

/// The keys of config.json that the run decides, so that what was trained is what is exported.
fn overrides(config: &Config, checkpoint: &ModelConfig) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    let mut set =
        |key: &str, value: Option<Value>| keys.extend(value.map(|value| (key.to_owned(), value)));
    set("template", config.conv_style.as_ref().map(|v| json!(v)));
    set(
        "force_image_size",
        config.force_image_size.map(|v| json!(v)),
    );
    set(
        "downsample_ratio",
        config.down_sample_ratio.map(|v| json!(v)),
    );
    set(
        "dynamic_image_size",
        config.dynamic_image_size.map(|v| json!(v)),
    );
    set("use_thumbnail", config.use_thumbnail.map(|v| json!(v)));
    set(
        "min_dynamic_patch",
        config.min_dynamic_patch.map(|v| json!(v)),
    );
    set(
        "max_dynamic_patch",
        config.max_dynamic_patch.map(|v| json!(v)),
    );
    set("pad2square", config.pad2square.map(|v| json!(v)));
    set(
        "normalize_type",
        config.normalize_type.map(|v| json!(v.name())),
    );
    set("ps_version", config.ps_version.map(|v| json!(v.name())));
    set("select_layer", config.vision_select_layer.map(|v| json!(v)));
    let serving = Serving {
        max_length: config.max_length,
        input_mode: input_mode(config),
        literal_special_tokens: config.literal_special_tokens,
    };
    keys.push(("seeward".to_owned(), json!(serving)));
    if config.algorithm != Algorithm::ShortcutAware
        && checkpoint.json().get("bias_reward_config").is_some()
    {
        keys.push(("bias_reward_config".to_owned(), Value::Null));
    }
    keys
}

/// Next-token training has no score head; the others keep the checkpoint's or draw one: N(0, 1/(hidden + 1)) as
/// published, for each branch its own.
fn prepare_head(
    parameters: &mut Parameters,
    config: &Config,
    source: &Source,
    device: Device,
    notices: &mut Vec<String>,
) -> Result<()> {
    let name = format!("{}{SCORE_HEAD}", source.branch.prefix());
    if config.algorithm == Algorithm::Sft {
        parameters.remove(&name);
    } else if !parameters.contains(&name) {
        let hidden = source.config.text.hidden as i64;
        let stream = Stream::new(config.seed as u64, &name, 0);
        let drawn = stream.torch(|| Tensor::f_randn([1, hidden], (Kind::Float, Device::Cpu)))?;
        let head = drawn / (hidden + 1) as f64;
        parameters.insert(name.clone(), head.to_device(device));
        notices.push(format!(
            "{}: no {SCORE_HEAD}: {name} starts from the published initialisation",
            source.folder.display()
        ));
    }
    Ok(())
}

/// How a branch gets at its images; what is kept is known to its view.
fn vision(config: &Config, model: &Model, view: &View) -> Vision {
    let scope = format!("{}vision_model.", model.branch.prefix());
    match model.parameters.train_in(&scope) {
        true => Vision::Trains,
        false if !view.shared => Vision::Frozen,
        false => Vision::Kept(Features::new(
            model.layout(),
            view.known.clone(),
            config.vision_cache_memory as u64,
        )),
    }
}

/// Puts the weights of a run's own checkpoint apart again into those that it started from and low-rank additions.
fn restore_additions(
    parameters: &mut Parameters,
    config: &Config,
    sources: &Branches<Source>,
    folder: &Path,
    device: Device,
) -> Result<()> {
    if !(config.use_backbone_lora || config.use_llm_lora) {
        return Ok(());
    }
    let bases = self::sources(config, None, &mut Vec::new())?;
    for (source, base) in sources.each().zip(bases.each()) {
        let apart = Apart {
            branch: source.branch,
            layers: lora::layers(config, &source.config),
            merged: folder,
            base: (&base.folder, base.stored.prefix()),
            device,
        };
        apart.restore(parameters)?;
    }
    Ok(())
}

/// Whether a tensor trains: its part is neither frozen nor adapted, and the loss can reach it. The output projection does not see the
/// reward; a tied one is the embedding table and is never a tensor of its own.
fn trains(config: &Config, sources: &Branches<Source>, name: &str) -> bool {
    let text_prefix = Branch::TextOnly.prefix();
    let (local, source) = match (name.strip_prefix(&text_prefix), &sources.text) {
        (Some(local), Some(text)) => (local, text),
        _ => (name, &sources.main),
    };
    if local == net::output_projection(&source.config.text) {
        let whole = !config.freeze_llm && !config.use_llm_lora;
        return config.algorithm == Algorithm::Sft
            && !source.config.text.tied_embeddings
            && (whole || config.unfreeze_lm_head);
    }
    if lora::adapts(config, local) {
        return lora::is_addition(local);
    }
    match local.split('.').next() {
        Some("vision_model") => {
            !config.freeze_backbone || is_unfrozen(config, source.config.vision.layers, local)
        }
        Some("mlp1") => !config.freeze_mlp,
        Some("language_model") => !config.freeze_llm,
        _ => true,
    }
}

/// Whether a vision model's tensor is in one of the layers that train though the model is frozen.
fn is_unfrozen(config: &Config, layers: usize, name: &str) -> bool {
    let first = match config.unfreeze_vit_layers {
        0 => return false,
        from if from < 0 => layers as i64 + from,
        from => from,
    };
    let behind = name.strip_prefix("vision_model.encoder.layers.");
    let index = behind.and_then(|name| name.split('.').next()?.parse::<i64>().ok());
    index.is_some_and(|index| index >= first)
}
