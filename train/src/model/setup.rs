//! From the config to branches that are ready to train: checkpoints read strictly, missing score heads and low-rank
//! additions initialised, weights frozen by part.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, ensure};
use seeward_models::config::OTHER_FILES;
use seeward_models::kinds::Layout;
use seeward_models::net::{self, Part, SCORE_HEAD};
use tch::{Device, Kind, Tensor};

use crate::config::{Algorithm, Config};
use crate::data::preprocess::Preprocessor;
use crate::device::row_multiple;
use crate::libtorch::attention;
use crate::libtorch::lora;
use crate::libtorch::parameters::Parameters;
use crate::libtorch::precision::{Precision, allow_tf32};
use crate::model::adapter::LoraRestore;
use crate::model::branch::{Model, Vision};
use crate::model::branch_source::{BranchSource, sources};
use crate::model::branches::Branches;
use crate::model::feature_cache::FeatureCache;
use crate::model::trainable::trained;
use crate::random::Stream;

/// The branches and their weights at the start of a run.
pub struct Start {
    /// The networks.
    pub models: Branches<Model>,
    /// How they read rows.
    pub preprocessors: Branches<Preprocessor>,
    /// The weights of all branches, by their names in the checkpoint.
    pub parameters: Rc<Parameters>,
    /// The files of the tokenizer and of image settings, which are copied into checkpoints.
    pub(crate) tokenizer_files: Vec<PathBuf>,
    /// Notices for the user.
    pub(crate) notices: Vec<String>,
}

impl Start {
    /// Reads the checkpoints that `config` names, or the run's own checkpoint `resumed`.
    ///
    /// # Errors
    /// A checkpoint that is missing, incomplete or of an unknown architecture.
    pub fn load(config: &Config, resumed: Option<&Path>, device: Device) -> Result<Self> {
        let mut notices = Vec::new();
        let mut sources = sources(config, resumed, &mut notices)?;
        let scale = lora::scale(config);
        let mut parameters = lora::adapted(Parameters::new(Precision::of(config)), scale);
        notices.extend(allow_tf32(config.tf32, device));
        attention::without_cudnn();
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
        let trained = trained(config, &sources);
        parameters.train_where(|name| lora::is_addition(name) || trained.contains(name));
        let parameters = Rc::new(parameters);
        let mut tokenizer_files = tokenizer.files().to_vec();
        tokenizer_files.extend(other_files(&sources.main));
        let mut preprocessors = sources.preprocessors(config)?;
        for preprocessor in preprocessors.each_mut() {
            preprocessor.row_multiple = row_multiple(device);
        }
        let mut models = sources.map(|source| Ok(source.model(&parameters, device)))?;
        fit_to(&preprocessors, &mut models, config);
        Ok(Self {
            models,
            preprocessors,
            parameters,
            tokenizer_files,
            notices,
        })
    }
}

/// The folder's further files in the layouts of transformers, which its programs need.
fn other_files(main: &BranchSource) -> Vec<PathBuf> {
    let files = match main.config.layout {
        Layout::InternvlChat => &[][..],
        Layout::Internvl | Layout::Text | Layout::QwenVl(_) => &OTHER_FILES[..],
    };
    let files = files.iter().map(|name| main.folder.join(name));
    files.filter(|file| file.is_file()).collect()
}

/// Sets how each branch obtains image features and where it computes rewards.
fn fit_to(preprocessors: &Branches<Preprocessor>, models: &mut Branches<Model>, config: &Config) {
    for (model, preprocessor) in models.each_mut().zip(preprocessors.each()) {
        model.vision = vision(config, model, preprocessor);
        model.every_token = !preprocessor.shared;
        model.reading = preprocessor.reading;
    }
}

/// Removes the score head for next-token training. Otherwise keeps the checkpoint's or draws one per branch, N(0,
/// 1/(hidden + 1)) as published.
fn prepare_head(
    parameters: &mut Parameters,
    config: &Config,
    source: &BranchSource,
    device: Device,
    notices: &mut Vec<String>,
) -> Result<()> {
    let name = format!("{}{SCORE_HEAD}", source.branch.prefix());
    if config.algorithm == Algorithm::Sft {
        require_output_projection(parameters, source)?;
        for parameter in net::parameters(&source.config, source.branch) {
            if parameter.part == Part::Head {
                parameters.remove(&parameter.name);
            }
        }
    } else if source.config.head.is_drawn() && !parameters.contains(&name) {
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

/// Only next-token training passes the output projection, which a reward model's checkpoint may lack.
fn require_output_projection(parameters: &Parameters, source: &BranchSource) -> Result<()> {
    let text = &source.config.text;
    let output = format!("{}{}", source.branch.prefix(), net::output_projection(text));
    ensure!(
        text.tied_embeddings || parameters.contains(&output),
        "{}: missing tensor {output}, which algorithm sft trains",
        source.folder.display()
    );
    Ok(())
}

/// How a branch obtains image features; the cache shares its index with the preprocessor.
fn vision(config: &Config, model: &Model, preprocessor: &Preprocessor) -> Vision {
    match model.trains(Part::Vision) {
        true => Vision::Trains,
        false if !preprocessor.shared || model.config.vision.is_none() => Vision::Frozen,
        false => Vision::Cached(Box::new(FeatureCache::new(
            model.layout(),
            preprocessor.cached.clone(),
            config.vision_cache_memory as u64,
            model.device,
        ))),
    }
}

fn draw_additions(
    parameters: &mut Parameters,
    config: &Config,
    branches: &Branches<BranchSource>,
    device: Device,
) -> Result<()> {
    for source in branches.each() {
        let model = (&source.config, source.branch);
        lora::draw(parameters, config, model, device)?;
    }
    Ok(())
}

/// Splits the weights of a run's own checkpoint into those of its base and low-rank additions.
fn restore_additions(
    parameters: &mut Parameters,
    config: &Config,
    branches: &Branches<BranchSource>,
    folder: &Path,
    device: Device,
) -> Result<()> {
    if !(config.use_backbone_lora || config.use_llm_lora) {
        return Ok(());
    }
    let bases = sources(config, None, &mut Vec::new())?;
    for (source, base) in branches.each().zip(bases.each()) {
        let restore = LoraRestore {
            branch: source.branch,
            config: &source.config,
            layers: lora::layers(config, &source.config),
            merged: folder,
            base: (&base.folder, base.stored.prefix()),
            device,
        };
        restore.restore(parameters)?;
    }
    Ok(())
}
