//! A loaded bundle: requests → pictures → conversations → forests → rewards.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use seeward_models::bundle::{Bundle, InputMode, Manifest, REWARD_GRAPH, reward_contract};
use seeward_models::prompt::Prompter;
use seeward_models::tokenizer::Tokenizer;

use crate::graph::{Graph, Inputs};
use crate::images::{Embeddings, Encoded};
use crate::prepared::{Asked, Pictures, Prepared, Read, Run};
use crate::scale::Whitening;
use crate::vision::{Shown, Vision};
use crate::{Device, Error, Options, Request, Result, Scored, Scores, Usage, library};

/// A reward model in an engine. Cheap to clone: clones share weights, threads and engine. Threads may share it; the runs of
/// each of its two graphs take turns, since one run uses all of the engine's threads.
#[derive(Clone)]
pub struct RewardModel(Arc<Inner>);

struct Inner {
    bundle: Bundle,
    options: Options,
    input: InputMode,
    whitening: Option<Whitening>,
    prompter: Prompter,
    vision: Option<Vision>,
    reward: Graph,
    pool: ThreadPool,
}

impl RewardModel {
    /// Loads the bundle in `folder`.
    ///
    /// # Errors
    /// A broken bundle, one made for another device, no ONNX Runtime, no such device.
    pub fn load(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        options.validate()?;
        let bundle = Bundle::open(folder.as_ref()).map_err(Error::Bundle)?;
        let manifest = bundle.manifest();
        options.device.check(manifest)?;
        let tokenizer = Tokenizer::open(bundle.folder()).map_err(Error::Bundle)?;
        let prompter = Prompter::new(tokenizer, manifest.prompt.clone()).map_err(Error::Bundle)?;
        Ok(Self(Arc::new(Inner {
            input: options.input_mode(manifest.input_mode)?,
            whitening: Whitening::of(manifest, options.scale)?,
            vision: Vision::open(&bundle, &options)?,
            reward: open_reward(&bundle, &options)?,
            pool: pool(&options)?,
            prompter,
            options,
            bundle,
        })))
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        self.0.options.device
    }

    /// What the model sees of a request: what both the bundle and the options let through.
    pub fn input_mode(&self) -> InputMode {
        self.0.input
    }

    /// Scores requests: the rewards of each, or its own error. What is computed together depends on the requests alone,
    /// so equal calls give equal bits. Memory grows with the pixels and embeddings of the call's images.
    ///
    /// # Errors
    /// The engine failed: no request is scored.
    pub fn score(&self, requests: &[Request]) -> Result<Scored> {
        self.run(self.prepare(requests)?)
    }

    /// The part of [`score`](Self::score) that needs no engine: reads, decodes and tiles pictures, tokenises, packs. So a
    /// thread may prepare the next call while another runs this one.
    ///
    /// # Errors
    /// Those of the requests are inside, and come out of [`run`](Self::run).
    pub fn prepare(&self, requests: &[Request]) -> Result<Prepared> {
        let (inner, options) = (&*self.0, &self.0.options);
        inner.pool.install(|| {
            let shown = inner.show(requests);
            let read = inner.read(requests, shown.images);
            Prepared::new(shown.pictures, read, &inner.bundle, options)
        })
    }

    /// The part of [`score`](Self::score) that is the engine's. What was prepared by a model of the same bundle and options
    /// on another device may run here.
    ///
    /// # Errors
    /// The engine failed, or it was prepared for another bundle: no request is scored.
    pub fn run(&self, prepared: Prepared) -> Result<Scored> {
        let (inner, mut usage) = (&*self.0, Usage::default());
        if prepared.bundle != inner.bundle.hash() {
            let problem = "what is to be run was prepared for another bundle";
            return Err(Error::Options(problem.to_owned()));
        }
        let embeddings = inner.encode(prepared.pictures, &mut usage)?;
        let asked = prepared.requests.iter().flatten();
        let none = |asked: &Asked| vec![0.0; asked.truncated.len()];
        let mut rewards: Vec<Vec<f32>> = asked.map(none).collect();
        for run in &prepared.runs {
            let values = inner.reward(run, &embeddings, &mut usage)?;
            for (&(request, response), value) in run.batch.sources.iter().zip(values) {
                rewards[request][response] = value;
            }
        }
        let mut rewards = rewards.into_iter();
        let mut answer = |asked: Asked| {
            let rewards = rewards.next().unwrap_or_default();
            usage.count(&asked);
            inner.scores(rewards, asked.truncated)
        };
        let requests = prepared.requests.into_iter();
        let results = requests.map(|asked| answer(asked?)).collect();
        Ok(Scored { results, usage })
    }
}

impl Inner {
    fn manifest(&self) -> &Manifest {
        self.bundle.manifest()
    }

    /// What the model is to see of the requests' images.
    fn show(&self, requests: &[Request]) -> Shown {
        match (&self.vision, self.input) {
            (None, mode) => show_nothing(requests, mode),
            (Some(vision), InputMode::TextOnly) => vision.white(requests.len()),
            (Some(vision), _) => vision.images(requests),
        }
    }

    fn read(&self, requests: &[Request], shown: Vec<Result<Vec<Encoded>>>) -> Vec<Result<Read>> {
        let pairs = requests.par_iter().zip(shown);
        pairs
            .map(|(request, images)| self.read_one(request, images?))
            .collect()
    }

    fn read_one(&self, request: &Request, images: Vec<Encoded>) -> Result<Read> {
        if request.responses.is_empty() {
            return Err(Error::NoResponses);
        }
        let prompt = match self.input {
            InputMode::ImageOnly => "",
            InputMode::Full | InputMode::TextOnly => &request.prompt,
        };
        let tiles: Vec<usize> = images.iter().map(|image| image.tiles).collect();
        let conversation = |response: &String| self.prompter.conversation(prompt, response, &tiles);
        let conversations: Result<_, _> = request.responses.iter().map(conversation).collect();
        Ok(Read {
            conversations: conversations.map_err(Error::Prompt)?,
            images,
        })
    }

    fn encode(&self, pictures: Pictures, usage: &mut Usage) -> Result<Embeddings> {
        match &self.vision {
            Some(vision) => vision.encode(pictures, usage),
            None => Ok(Embeddings::new(self.manifest().hidden_size)),
        }
    }

    /// One run of the reward graph.
    fn reward(&self, run: &Run, embeddings: &Embeddings, usage: &mut Usage) -> Result<Vec<f32>> {
        let (forest, rope) = (&run.batch.forest, &run.rope);
        let (width, layout) = (self.manifest().hidden_size, [forest.rows, forest.tokens]);
        let images = embeddings.gather(&forest.image_rows);
        let table = [rope.entries, self.manifest().rope.head_dim / 2];
        let last = forest.reward_positions();
        let inputs = Inputs::default()
            .with(layout, &forest.input_ids)
            .with(layout, &forest.position_ids)
            .with(layout, &forest.document_ids)
            .with(layout, &forest.branch_ids)
            .with([forest.image_rows.len(), width], &images)
            .with([forest.image_positions.len()], &forest.image_positions)
            .with(table, &rope.cos)
            .with(table, &rope.sin)
            .with([last.len()], &last);
        let (rewards, seconds) = self.reward.run(inputs)?;
        usage.engine += seconds;
        usage.tokens += forest.used_tokens as u64;
        if rewards.len() != last.len() {
            let problem = format!("expected {} rewards, got {}", last.len(), rewards.len());
            return Err(self.reward.error(problem));
        }
        Ok(rewards)
    }

    /// The rewards on the scale that was asked for; refuses such as are no numbers.
    fn scores(&self, mut rewards: Vec<f32>, truncated: Vec<bool>) -> Result<Scores> {
        if let Some(index) = rewards.iter().position(|reward| !reward.is_finite()) {
            return Err(Error::NotFinite {
                response: index + 1,
                reward: rewards[index],
                precision: self.manifest().precision,
            });
        }
        if let Some(whitening) = self.whitening {
            rewards.iter_mut().for_each(|r| *r = whitening.apply(*r));
        }
        Ok(Scores { rewards, truncated })
    }
}

/// A model without vision; asked for the text alone, it has no need of the images.
fn show_nothing(requests: &[Request], mode: InputMode) -> Shown {
    let show = |request: &Request| match request.images.len() {
        images if images > 0 && mode != InputMode::TextOnly => Err(Error::NoVision { images }),
        _ => Ok(Vec::new()),
    };
    Shown {
        pictures: Pictures::Own(Vec::new()),
        images: requests.iter().map(show).collect(),
    }
}

fn open_reward(bundle: &Bundle, options: &Options) -> Result<Graph> {
    let manifest = bundle.manifest();
    let contract = reward_contract(manifest.hidden_size, manifest.rope.head_dim);
    let environment = library::environment(options.library.as_deref())?;
    Graph::open(
        REWARD_GRAPH,
        &bundle.reward_graph(),
        &contract,
        &environment,
        options,
    )
}

fn pool(options: &Options) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(options.threads.unwrap_or(0));
    builder
        .build()
        .map_err(|e| Error::Options(format!("threads: {e}")))
}
