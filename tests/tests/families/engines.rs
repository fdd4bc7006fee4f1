//! A family's golden model in LibTorch and as a bundle in ONNX Runtime.

use std::path::PathBuf;

use seeward_export::{Options as ExportOptions, export};
use seeward_models::config::{HeadChoices, PixelLimits};
use seeward_models::image::Extent;
use seeward_models::kinds::{InputMode, Precision, Target};
use seeward_models::net::Branch;
use seeward_models::prompt::{Conversation, Template};
use seeward_models::reading::RewardAt;
use seeward_runtime::{Options, Request, RewardModel};
use seeward_train::config::Config;
use seeward_train::data::preprocess::Preprocessor;
use seeward_train::data::rows::{Row as TrainRow, Rows, Samples};
use seeward_train::model::branch::Model;
use seeward_train::model::setup::Start;
use tch::Device;
use tempfile::TempDir;

use crate::golden::{Row, model, template};

/// A checkpoint, and what none of its files says.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) template: Option<Template>,
    pub(crate) head: HeadChoices,
}

impl Folder {
    fn golden(family: &str) -> Self {
        Self {
            path: model(family),
            template: template(family),
            head: HeadChoices::default(),
        }
    }
}

fn name(at: &RewardAt) -> String {
    match at {
        RewardAt::Last => "last".to_owned(),
        RewardAt::Mean => "mean".to_owned(),
        RewardAt::Token(token) => token.clone(),
    }
}

/// A model in LibTorch.
pub(crate) struct LibTorch {
    model: Model,
    preprocessor: Preprocessor,
}

impl LibTorch {
    pub(crate) fn load(family: &str, mode: InputMode, shared: bool) -> Self {
        Self::of(&Folder::golden(family), mode, shared)
    }

    /// `shared`: the responses of a row share what they have in common.
    pub(crate) fn of(folder: &Folder, mode: InputMode, shared: bool) -> Self {
        tch::set_num_threads(1);
        let config = Config {
            model_name_or_path: folder.path.display().to_string(),
            use_text_only: mode == InputMode::TextOnly,
            use_image_only: mode == InputMode::ImageOnly,
            share_computation: shared,
            max_length: 4096,
            conv_style: folder.template.map(|template| template.name().to_owned()),
            head_activation: folder.head.activation,
            head_output: folder.head.output,
            reward_at: folder.head.at.as_ref().map(name),
            ..Config::default()
        };
        let start = Start::load(&config, None, Device::Cpu).expect("golden model");
        Self {
            model: start.models.main,
            preprocessor: start.preprocessors.main,
        }
    }

    pub(crate) fn conversation(&self, row: &Row, response: usize) -> Conversation {
        let images: Vec<Extent> = row.extents.iter().map(|(extent, _)| *extent).collect();
        let response = &row.responses[response].text;
        let prompt = row.prompt.as_str().into();
        let read = self.preprocessor.conversation(&prompt, response, &images);
        read.expect("a conversation")
    }

    /// The rewards of a row's responses: neighbours are the two sides of a pair.
    pub(crate) fn rewards(&self, row: &Row) -> Vec<f64> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        let last = row.responses.len() - 1;
        let pairs: Vec<String> = (0..last).map(|i| row.pair(i, i + 1).to_string()).collect();
        std::fs::write(&path, pairs.join("\n")).expect("written");
        let rows = Rows::pairs(&path, None).expect("rows");
        let numbers: Vec<usize> = (0..rows.count()).collect();
        let Samples::Pairs(rows) = rows.read(&numbers).expect("rows") else {
            panic!("pairs")
        };
        let rows: Vec<&TrainRow<_>> = rows.iter().collect();
        let inputs = self.preprocessor.pairs(&rows).expect("inputs");
        let rewards = tch::no_grad(|| self.model.rewards(&inputs)).expect("rewards");
        let rewards: Vec<f64> = Vec::try_from(rewards.to_kind(tch::Kind::Double)).expect("a list");
        let chosen = rewards.iter().step_by(2);
        chosen.chain(rewards.last()).copied().collect()
    }
}

/// A bundle of a family's golden model.
pub(crate) struct Onnx {
    folder: TempDir,
    pub(crate) target: Target,
    pub(crate) precision: Precision,
}

impl Onnx {
    pub(crate) fn export(family: &str, target: Target, precision: Precision) -> Self {
        Self::of(&Folder::golden(family), target, precision)
    }

    pub(crate) fn of(source: &Folder, target: Target, precision: Precision) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = ExportOptions {
            checkpoint: source.path.clone(),
            output: folder.path().join("bundle"),
            branch: Branch::Main,
            target,
            precision,
            max_length: None,
            template: source.template,
            pixels: PixelLimits::default(),
            head: source.head.clone(),
        };
        export(&options).expect("exported");
        Self {
            folder,
            target,
            precision,
        }
    }

    pub(crate) fn load(&self, mode: InputMode) -> Loaded {
        self.load_with(Options::default().input(mode))
    }

    pub(crate) fn load_with(&self, options: Options) -> Loaded {
        let options = options.threads(1);
        let bundle = self.folder.path().join("bundle");
        Loaded(RewardModel::load(bundle, options).expect("loaded"))
    }

    /// The tolerance of a reward: that of a probe, and in fp32 that of the golden set.
    pub(crate) fn tolerance(&self) -> f64 {
        let bundle = seeward_models::bundle::Bundle::open(&self.folder.path().join("bundle"));
        bundle.expect("a bundle").manifest().probe_tolerance
    }
}

/// A bundle in ONNX Runtime.
pub(crate) struct Loaded(RewardModel);

impl Loaded {
    /// The rewards of some of a row's responses.
    pub(crate) fn score(&self, row: &Row, responses: &[usize]) -> Vec<f64> {
        self.score_requests(&[request(row, responses)]).0
    }

    /// The rewards of all responses of rows in one call, and the number of images that a cache had.
    pub(crate) fn score_together(&self, rows: &[Row]) -> (Vec<f64>, u64) {
        let all = |row: &Row| (0..row.responses.len()).collect::<Vec<_>>();
        let requests: Vec<Request> = rows.iter().map(|row| request(row, &all(row))).collect();
        self.score_requests(&requests)
    }

    fn score_requests(&self, requests: &[Request]) -> (Vec<f64>, u64) {
        let scored = self.0.score(requests).expect("the engine runs");
        let results = scored.results.into_iter();
        let rewards = results.flat_map(|scores| scores.expect("a good request").rewards);
        (rewards.map(f64::from).collect(), scored.usage.images_cached)
    }
}

fn request(row: &Row, responses: &[usize]) -> Request {
    let texts = responses.iter().map(|&index| &row.responses[index].text);
    let images = row.images.iter();
    images.fold(
        Request::new(&row.prompt).responses(texts),
        |request, image| request.image(image.as_path()),
    )
}
