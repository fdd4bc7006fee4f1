//! From the config to branches that are ready to train: checkpoints read strictly, score heads and low-rank additions
//! drawn where there are none, weights frozen by name.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use seeward_models::net::SCORE_HEAD;
use tch::{Device, Kind, Tensor};

use crate::adapter::Apart;
use crate::batch::View;
use crate::config::{Algorithm, Config};
use crate::features::Features;
use crate::freezing::trains;
use crate::lora;
use crate::model::{Model, Vision};
use crate::parameters::Parameters;
use crate::precision::{Precision, allow_tf32};
use crate::random::Stream;
use crate::source::{Source, sources};

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
            None => draw_additions(&mut parameters, config, &sources, device)?,
        }
        parameters.train_where(|name| trains(config, &sources, name));
        let parameters = Rc::new(parameters);
        let tokenizer_files = tokenizer.files().to_vec();
        let views = sources.views(config)?;
        let mut models = sources.map(|source| Ok(source.model(&parameters, device)))?;
        for (model, view) in models.each_mut().zip(views.each()) {
            model.vision = vision(config, model, view);
            model.every_token = !view.shared;
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
        false if !view.shared || model.config.vision.is_none() => Vision::Frozen,
        false => Vision::Kept(Features::new(
            model.layout(),
            view.known.clone(),
            config.vision_cache_memory as u64,
        )),
    }
}

fn draw_additions(
    parameters: &mut Parameters,
    config: &Config,
    branches: &Branches<Source>,
    device: Device,
) -> Result<()> {
    for source in branches.each() {
        let model = (&source.config, source.branch);
        lora::draw(parameters, config, model, device)?;
    }
    Ok(())
}

/// Puts the weights of a run's own checkpoint apart again into those that it started from and low-rank additions.
fn restore_additions(
    parameters: &mut Parameters,
    config: &Config,
    branches: &Branches<Source>,
    folder: &Path,
    device: Device,
) -> Result<()> {
    if !(config.use_backbone_lora || config.use_llm_lora) {
        return Ok(());
    }
    let bases = sources(config, None, &mut Vec::new())?;
    for (source, base) in branches.each().zip(bases.each()) {
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
