//! A loaded bundle: requests → pictures → conversations → forests → rewards.

use std::path::Path;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use seeward_models::bundle::{Bundle, InputMode, Manifest, REWARD_GRAPH, reward_contract};
use seeward_models::forest::{self, Cost, Document, Forest, Packing, Rates};
use seeward_models::prompt::{Conversation, Prompter};
use seeward_models::tokenizer::Tokenizer;

use crate::graph::{Graph, Inputs};
use crate::images::{Embeddings, Encoded};
use crate::vision::{Shown, Vision};
use crate::{Device, Error, Options, Request, Result, Scored, Scores, Usage, library};

/// A reward model in an engine. Threads may share it; their runs take turns.
pub struct RewardModel {
    bundle: Bundle,
    options: Options,
    input: InputMode,
    prompter: Prompter,
    vision: Option<Vision>,
    reward: Graph,
    packing: Packing,
    pool: ThreadPool,
}

/// A request as the network reads it.
struct Prepared {
    conversations: Vec<Conversation>,
    image_rows: Vec<i64>,
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
        Ok(Self {
            input: options.input_mode(manifest.input_mode)?,
            vision: Vision::open(&bundle, &options)?,
            reward: open_reward(&bundle, &options)?,
            packing: packing(manifest, &options),
            pool: pool(&options)?,
            prompter,
            options,
            bundle,
        })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        self.options.device
    }

    /// What the model sees of a request: what both the bundle and the options let through.
    pub fn input_mode(&self) -> InputMode {
        self.input
    }

    /// Scores requests: the rewards of each, or its own error. What is computed together depends on the requests alone,
    /// so equal calls give equal bits. Memory grows with the embeddings of the call's images.
    ///
    /// # Errors
    /// The engine failed: no request is scored.
    pub fn score(&self, requests: &[Request]) -> Result<Scored> {
        let mut usage = Usage::default();
        let shown = self.pool.install(|| self.show(requests, &mut usage))?;
        let prepared = self.pool.install(|| self.prepare(requests, shown.images));
        let rewards = self.rewards(&prepared, &shown.embeddings, &mut usage)?;
        let mut rewards = rewards.into_iter().flatten();
        let mut scores = |p: &Prepared| scores(p, &mut rewards, &mut usage);
        let results = prepared
            .into_iter()
            .map(|p| self.finite(scores(&p?)))
            .collect();
        Ok(Scored { results, usage })
    }

    /// Refuses rewards that are no numbers.
    fn finite(&self, scores: Scores) -> Result<Scores> {
        let rewards = &mut scores.rewards.iter();
        match rewards.position(|reward| !reward.is_finite()) {
            None => Ok(scores),
            Some(index) => Err(Error::NotFinite {
                response: index + 1,
                reward: scores.rewards[index],
                precision: self.manifest().precision,
            }),
        }
    }

    fn manifest(&self) -> &Manifest {
        self.bundle.manifest()
    }

    /// Encodes what the model is to see of the requests' images.
    fn show(&self, requests: &[Request], usage: &mut Usage) -> Result<Shown> {
        match (&self.vision, self.input) {
            (None, mode) => Ok(self.show_nothing(requests, mode)),
            (Some(vision), InputMode::TextOnly) => vision.white(requests.len(), usage),
            (Some(vision), _) => vision.images(requests, usage),
        }
    }

    /// A model without vision; asked for the text alone, it has no need of the images.
    fn show_nothing(&self, requests: &[Request], mode: InputMode) -> Shown {
        let show = |request: &Request| match request.images.len() {
            images if images > 0 && mode != InputMode::TextOnly => Err(Error::NoVision { images }),
            _ => Ok(Vec::new()),
        };
        Shown {
            embeddings: Embeddings::new(self.manifest().hidden_size),
            images: requests.iter().map(show).collect(),
        }
    }

    fn prepare(
        &self,
        requests: &[Request],
        shown: Vec<Result<Vec<Encoded>>>,
    ) -> Vec<Result<Prepared>> {
        let pairs = requests.par_iter().zip(shown);
        pairs
            .map(|(request, images)| self.prepare_one(request, &images?))
            .collect()
    }

    fn prepare_one(&self, request: &Request, images: &[Encoded]) -> Result<Prepared> {
        if request.responses.is_empty() {
            return Err(Error::NoResponses);
        }
        let prompt = match self.input {
            InputMode::ImageOnly => "",
            InputMode::Full | InputMode::TextOnly => &request.prompt,
        };
        let tiles: Vec<usize> = images.iter().map(|image| image.tiles).collect();
        let conversation = |response: &String| self.prompter.conversation(prompt, response, &tiles);
        let conversations = request
            .responses
            .iter()
            .map(conversation)
            .collect::<Result<_, _>>();
        let rows = images.iter().flat_map(|image| image.rows.clone());
        Ok(Prepared {
            conversations: conversations.map_err(Error::Prompt)?,
            image_rows: rows.map(|row| row as i64).collect(),
        })
    }

    /// The rewards of those requests that could be prepared.
    fn rewards(
        &self,
        prepared: &[Result<Prepared>],
        embeddings: &Embeddings,
        usage: &mut Usage,
    ) -> Result<Vec<Vec<f32>>> {
        let documents: Vec<Document> = prepared.iter().flatten().map(document).collect();
        let batches = forest::batches(&documents, &self.manifest().rope, &self.packing)
            .map_err(Error::Prompt)?;
        let none = |document: &Document| vec![0.0; document.branches.len()];
        let mut rewards: Vec<Vec<f32>> = documents.iter().map(none).collect();
        for batch in &batches {
            let values = self.run(&batch.forest, embeddings, usage)?;
            for (&(document, branch), value) in batch.sources.iter().zip(values) {
                rewards[document][branch] = value;
            }
        }
        Ok(rewards)
    }

    /// One run of the reward graph.
    fn run(&self, forest: &Forest, embeddings: &Embeddings, usage: &mut Usage) -> Result<Vec<f32>> {
        let (width, layout) = (self.manifest().hidden_size, [forest.rows, forest.tokens]);
        let images = embeddings.gather(&forest.image_rows);
        let rope = self.manifest().rope.tables(&forest.rope);
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

fn packing(manifest: &Manifest, options: &Options) -> Packing {
    Packing {
        batch_tokens: options.batch_tokens,
        cost: Cost::new(manifest.work, Rates::of(manifest.precision)),
    }
}

fn pool(options: &Options) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(options.threads.unwrap_or(0));
    builder
        .build()
        .map_err(|e| Error::Options(format!("threads: {e}")))
}

fn document(prepared: &Prepared) -> Document<'_> {
    Document {
        branches: prepared.conversations.iter().collect(),
        image_rows: prepared.image_rows.clone(),
    }
}

/// Takes the request's rewards off the front of `rewards`.
fn scores(
    prepared: &Prepared,
    rewards: &mut impl Iterator<Item = f32>,
    usage: &mut Usage,
) -> Scores {
    let conversations = &prepared.conversations;
    let rewards: Vec<f32> = rewards.take(conversations.len()).collect();
    let tokens = conversations.iter().map(|c| c.ids.len()).sum::<usize>();
    let truncated: Vec<bool> = conversations.iter().map(|c| c.truncated).collect();
    usage.tokens_without_sharing += tokens as u64;
    usage.responses += rewards.len() as u64;
    usage.truncated += truncated.iter().filter(|cut| **cut).count() as u64;
    Scores { rewards, truncated }
}
