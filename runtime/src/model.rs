//! A loaded bundle: requests → pictures → conversations → forests → rewards.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use seeward_models::bundle::{Bundle, Manifest, REWARD_GRAPH};
use seeward_models::contract::reward_contract;
use seeward_models::kinds::InputMode;
use seeward_models::prompt::Prompter;
use seeward_models::tokenizer::Tokenizer;

use crate::graph::{Graph, Inputs};
use crate::images::{Embeddings, Encoded};
use crate::prepared::{Asked, Pictures, Prepared, Read, Run};
use crate::scale::Whitening;
use crate::vision::{Shown, Vision};
use crate::{Device, Error, Options, Placement, Request, Result, Scored, Scores, Usage};

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

    /// Which of ONNX Runtime's providers runs which nodes of the graphs.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        let vision = self.0.vision.iter().map(|vision| &vision.graph);
        let graphs = vision.chain([&self.0.reward]);
        graphs.flat_map(|graph| &graph.placements)
    }

    /// Those that the device's own provider left to another. On a GPU a few that compute with shapes stay on the processor;
    /// more than that is slow.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Placement> {
        let own = self.device().provider();
        self.placements()
            .filter(move |placement| placement.provider != own)
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
    Graph::open(REWARD_GRAPH, bundle, &contract, options)
}

fn pool(options: &Options) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(options.threads.unwrap_or(0));
    builder
        .build()
        .map_err(|e| Error::Options(format!("threads: {e}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Image;

    fn golden(path: &str) -> std::path::PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        folder.join(path)
    }

    fn model() -> RewardModel {
        RewardModel::load(golden("bundles/qwen2"), Options::default()).unwrap()
    }

    fn request(images: Vec<Image>) -> Request {
        Request {
            prompt: "what color is the shape?".to_owned(),
            images,
            responses: vec!["blue".to_owned(), "It is a yellow circle.".to_owned()],
        }
    }

    #[test]
    fn a_bound_run_gives_the_same_bits() {
        let (plain, mut bound) = (model(), model());
        let inner = Arc::get_mut(&mut bound.0).unwrap();
        inner.reward.bound = true;
        inner.vision.as_mut().unwrap().graph.bound = true;
        let picture = Image::Path(golden("images/vqa0.png"));
        // The second run has no image embeddings at all.
        for request in [request(vec![picture]), request(Vec::new())] {
            let rewards = |model: &RewardModel| {
                let scored = model.score(std::slice::from_ref(&request)).unwrap();
                let rewards = &scored.results[0].as_ref().unwrap().rewards;
                rewards.iter().map(|r| r.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(rewards(&bound), rewards(&plain));
        }
    }

    #[test]
    fn every_node_has_its_provider() {
        let model = model();
        let placements: Vec<&Placement> = model.placements().collect();
        let graphs: Vec<&str> = placements.iter().map(|p| p.graph).collect();
        assert_eq!(graphs, ["vision.onnx", "reward.onnx"]);
        for placement in placements {
            assert_eq!(placement.provider, "CPUExecutionProvider");
            assert!(placement.operators["MatMul"] > 1, "{placement}");
        }
        assert_eq!(model.elsewhere().count(), 0);
        // Held against what another device would call its own, all of it is elsewhere.
        let own = Device::Cuda(0).provider();
        assert!(
            model
                .placements()
                .all(|placement| placement.provider != own)
        );
    }
}
