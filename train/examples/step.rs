//! Training steps at real widths, timed part by part: this project's half of `scripts/bench/train.py`. Reads one request
//! a line on stdin and answers each with a line of JSON on stdout; the first line is a description of the work.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use seeward_models::forest::Forest;
use seeward_models::image::{Extent, Pixels};
use seeward_models::reading::Reading;
use seeward_models::sample::ImageRef;
use seeward_train::config::Config;
use seeward_train::data::inputs::Inputs;
use seeward_train::data::loader::{self, Batch, Preprocessors};
use seeward_train::data::preprocess::Preprocessor;
use seeward_train::data::scan::Scan;
use seeward_train::dry_run::preflight::Preflight;
use seeward_train::libtorch::memory;
use seeward_train::model::branch::{Model, Vision};
use seeward_train::model::branches::Branches;
use seeward_train::model::feature_cache::FeatureCache;
use seeward_train::model::setup::Start;
use seeward_train::step::optimizer::{AdamW, forget_gradients};
use seeward_train::step::trainer::Trainer;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Measures the cost of a training step.
#[derive(Parser)]
struct Arguments {
    /// The run's config; its dataset_path is written
    #[arg(long)]
    config: PathBuf,
    /// One image for each pair
    #[arg(long, required = true)]
    image: Vec<PathBuf>,
    /// Tokens that the two conversations of a pair share
    #[arg(long)]
    prefix: usize,
    /// Tokens of a response
    #[arg(long)]
    response: usize,
    /// Folder for the pixels of the published schedule
    #[arg(long)]
    pixels: PathBuf,
}

/// A request.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Question {
    /// Forward and backward.
    Backward { way: Way, checkpointing: bool },
    /// The memory of forward and backward.
    Memory { way: Way, checkpointing: bool },
    /// The update.
    Update,
    /// Matrix products of one size: operations per second.
    Matmul,
}

/// How a pair is computed.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// Every conversation separately, as published.
    Plain,
    /// Common parts of conversations once; the images are new.
    Shared,
    /// The same with images whose features are cached.
    Kept,
}

/// Digits: in every tokenizer of the supported families each is a token.
const DIGITS: [&str; 3] = ["0", "1", "2"];
/// Rows, inner and outer width of the timed product.
const MATMUL: [i64; 3] = [4096, 896, 4864];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    memory::keep_freed();
    let (config, _) = Config::load(&arguments.config, &[])?;
    config.threads.inspect(|&t| tch::set_num_threads(t as i32));
    let mut bench = Bench::new(&arguments, config)?;
    say(&bench.description(&arguments.pixels)?)?;
    for line in std::io::stdin().lock().lines() {
        say(&bench.answer(&serde_json::from_str(&line?)?)?)?;
    }
    Ok(())
}

fn say(answer: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    Ok(writeln!(stdout, "{answer}").and_then(|()| stdout.flush())?)
}

/// A model and one batch, computed in every requested way.
struct Bench {
    config: Config,
    start: Start,
    /// The same batch without and with sharing.
    batches: BTreeMap<bool, Vec<Batch>>,
    /// Trainers without and with activation checkpointing.
    trainers: BTreeMap<(Way, bool), Trainer>,
    optimizer: AdamW,
}

impl Bench {
    fn new(arguments: &Arguments, config: Config) -> Result<Self> {
        write_rows(arguments, &config)?;
        let batches = [false, true].map(|shared| {
            Ok((
                shared,
                vec![batch(&config, shared)?, batch(&config, shared)?],
            ))
        });
        Ok(Self {
            start: Start::load(&config, None, Device::Cpu)?,
            batches: batches.into_iter().collect::<Result<_>>()?,
            trainers: BTreeMap::new(),
            optimizer: AdamW::new(&config),
            config,
        })
    }

    fn answer(&mut self, question: &Question) -> Result<Value> {
        match question {
            Question::Backward { way, checkpointing } => self.backward(*way, *checkpointing),
            Question::Memory { way, checkpointing } => self.memory(*way, *checkpointing),
            Question::Update => self.update(),
            Question::Matmul => Ok(json!({ "rate": self.matmul() })),
        }
    }

    /// Seconds, and the loss.
    fn backward(&mut self, way: Way, checkpointing: bool) -> Result<Value> {
        let batches = &self.batches[&(way != Way::Plain)][..1];
        let trainer = trainer(
            &mut self.trainers,
            &self.config,
            &self.start,
            (way, checkpointing),
        );
        forget_gradients(&self.start.parameters);
        let started = Instant::now();
        let measures = trainer.backward(batches)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "loss": measures.loss }))
    }

    /// Peak bytes beyond those before the pass and those of the gradients, in the second of two passes: all gradients
    /// exist throughout.
    fn memory(&mut self, way: Way, checkpointing: bool) -> Result<Value> {
        let batches = &self.batches[&(way != Way::Plain)];
        let trainer = trainer(
            &mut self.trainers,
            &self.config,
            &self.start,
            (way, checkpointing),
        );
        forget_gradients(&self.start.parameters);
        let before = resident()?;
        fs::write("/proc/self/clear_refs", "5")?;
        trainer.backward(batches)?;
        let peak = memory::peak(Device::Cpu);
        let peak = peak.context("the system does not say how much memory was needed")?;
        let parameters = self.start.parameters.trainable();
        let gradients = parameters.map(|(_, tensor)| tensor.grad());
        let gradients = gradients.filter(Tensor::defined);
        let gradients: usize = gradients.map(|gradient| 4 * gradient.numel()).sum();
        Ok(json!({ "bytes": peak.saturating_sub(before + gradients as u64) }))
    }

    /// Seconds of the norm of the gradients, and of the update at a rate of zero.
    fn update(&mut self) -> Result<Value> {
        let started = Instant::now();
        let norm = self.optimizer.reduce(&self.start.parameters)?.sqrt();
        let after_norm = started.elapsed().as_secs_f64();
        self.optimizer.step(&self.start.parameters, 1.0, |_| 0.0)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(json!({ "norm": norm, "norm_seconds": after_norm, "seconds": seconds }))
    }

    fn matmul(&self) -> f64 {
        let kind = self.start.parameters.precision().kind();
        let [rows, inner, outer] = MATMUL;
        let (x, w) = (drawn(kind, rows, inner), drawn(kind, outer, inner));
        let product = || {
            let started = Instant::now();
            let _ = x.linear(&w, None::<Tensor>);
            started.elapsed().as_secs_f64()
        };
        let mut seconds: Vec<f64> = (0..9).map(|_| product()).collect();
        seconds.sort_by(f64::total_cmp);
        2.0 * (rows * inner * outer) as f64 / seconds[seconds.len() / 2]
    }

    /// The amount of work, and the tokens of the published schedule, for the peer.
    fn description(&self, pixels: &Path) -> Result<Value> {
        let branch = |of: fn(&Batch) -> Option<&Inputs>, name: &str| {
            let (Some(plain), Some(shared)) =
                (of(&self.batches[&false][0]), of(&self.batches[&true][0]))
            else {
                return Ok(Value::Null);
            };
            let file = pixels.join(name);
            let pixels = plain.images.iter().flat_map(|image| &image.pixels);
            let bytes = pixels.flat_map(|pixels| match pixels {
                Pixels::Tiles(tiles) => tiles.iter().copied().collect::<Vec<u8>>(),
                Pixels::Grid(grid) => grid.patches.iter().copied().collect(),
            });
            let bytes: Vec<u8> = bytes.collect();
            fs::write(&file, bytes).with_context(|| file.display().to_string())?;
            let rows = plain.forest.input_ids.rows().into_iter();
            anyhow::Ok(json!({
                "plain": work(plain), "shared": work(shared), "pixels": file,
                "input_ids": rows.map(|row| row.to_vec()).collect::<Vec<_>>(),
            }))
        };
        Ok(json!({
            "main": branch(|batch| batch.main.as_ref(), "main.u8")?,
            "text": branch(|batch| batch.text.as_ref(), "text.u8")?,
        }))
    }
}

fn drawn(kind: Kind, rows: i64, columns: i64) -> Tensor {
    Tensor::randn([rows, columns], (Kind::Float, Device::Cpu)).to_kind(kind)
}

fn trainer<'a>(
    trainers: &'a mut BTreeMap<(Way, bool), Trainer>,
    config: &Config,
    start: &Start,
    (way, checkpointing): (Way, bool),
) -> &'a Trainer {
    trainers.entry((way, checkpointing)).or_insert_with(|| {
        let config = Config {
            grad_checkpoint: checkpointing,
            ..config.clone()
        };
        let models = Branches {
            main: model(&start.models.main, way),
            text: start.models.text.as_ref().map(|text| model(text, way)),
        };
        Trainer::new(&config, models, start.parameters.clone())
    })
}

/// The same network over the same weights, with a frozen vision model. The white image is cached except in the plain
/// case.
fn model(model: &Model, way: Way) -> Model {
    let kept = |bytes| {
        let cache = FeatureCache::new(model.layout(), Arc::default(), bytes, model.device);
        Vision::Cached(Box::new(cache))
    };
    Model {
        branch: model.branch,
        config: model.config.clone(),
        device: model.device,
        parameters: model.parameters.clone(),
        vision: match way {
            Way::Plain => Vision::Frozen,
            Way::Shared => kept(0),
            Way::Kept => kept(u64::MAX),
        },
        every_token: way == Way::Plain,
        reading: Reading::Last,
    }
}

/// Current bytes in memory.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/statm")?;
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    Ok(4096 * pages.context("/proc/self/statm: no resident pages")?)
}

fn batch(config: &Config, shared: bool) -> Result<Batch> {
    let config = Config {
        share_computation: shared,
        ..config.clone()
    };
    let preprocessors = Preflight::of(&config)?.preprocessors;
    let unpacked = Path::new(&config.output_dir).join("rows.jsonl");
    let scan = Scan::open(&config, Path::new(&config.dataset_path), &unpacked)?;
    let (rows, _) = scan.within(0.0)?;
    let preprocessors = Preprocessors {
        main: Some(&preprocessors.main),
        text: preprocessors.text.as_ref(),
    };
    loader::prepare(&rows, preprocessors, &(0..rows.count()).collect::<Vec<_>>())
}

/// Tiles, tokens, pairs of tokens of which one attends to the other, and rewards.
fn work(inputs: &Inputs) -> Value {
    let forest = &inputs.forest;
    let rewards = forest.reward_positions().len();
    json!({ "tiles": inputs.tiles(), "tokens": forest.used_tokens, "seen": seen(forest), "rewards": rewards })
}

fn seen(forest: &Forest) -> usize {
    let mut before: HashMap<_, usize> = HashMap::new();
    let mut count = |((row, column), &document): ((usize, usize), &i32)| {
        let place = (row, document);
        let branch = forest.branch_ids[(row, column)];
        let own = before.entry((place, branch)).or_default();
        *own += 1;
        let own = *own;
        own + if branch == 0 { 0 } else { before[&(place, 0)] }
    };
    forest.document_ids.indexed_iter().map(&mut count).sum()
}

/// One pair about each image, of exactly the requested lengths.
fn write_rows(arguments: &Arguments, config: &Config) -> Result<()> {
    let preprocessor = Preflight::of(config)?.preprocessors.main;
    let rows = arguments.image.iter().map(|image| {
        let path = image.display().to_string();
        let images = [preprocessor.extent(&ImageRef::File(path.clone()))?];
        let (prompt, response) = lengths(&preprocessor, &images, arguments)?;
        let [zero, one, two] = DIGITS;
        let row = json!({
            "prompt": zero.repeat(prompt), "img_path": path,
            "chosen": one.repeat(response), "rejected": two.repeat(response),
        });
        anyhow::Ok(format!("{row}\n"))
    });
    let text = rows.collect::<Result<String>>()?;
    fs::write(&config.dataset_path, text).with_context(|| config.dataset_path.clone())
}

/// Numbers of digits of the prompt and of a response.
fn lengths(
    preprocessor: &Preprocessor,
    images: &[Extent],
    arguments: &Arguments,
) -> Result<(usize, usize)> {
    let [zero, one, _] = DIGITS;
    let shortest = preprocessor.conversation(&zero.into(), one, images)?;
    let (all, own) = (
        shortest.ids.len(),
        shortest.ids.len() - shortest.response_start,
    );
    let longer = |asked: usize, least: usize| asked.checked_sub(least).map(|more| 1 + more);
    let prompt =
        longer(arguments.prefix, all - own).context("--prefix is too short for the images")?;
    let response = longer(arguments.response, own).context("--response is too short")?;
    let whole =
        preprocessor.conversation(&zero.repeat(prompt).into(), &one.repeat(response), images)?;
    ensure!(
        whole.response_start == arguments.prefix
            && whole.ids.len() == arguments.prefix + arguments.response,
        "a digit is not a token of this tokenizer"
    );
    Ok((prompt, response))
}
