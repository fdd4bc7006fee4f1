//! A loaded bundle: requests → tiles and token layouts → rewards.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use seeward_models::bundle::Bundle;
use seeward_models::image::Extent;
use seeward_models::kinds::InputMode;
use seeward_models::prompt::Prompter;
use seeward_models::reading::Reading;

use crate::load::{Load, Pace};
use crate::prepared::{Prepared, RequestInfo, Tokenized, packing};
use crate::reward::Reward;
use crate::scale::Rescaling;
use crate::vision::{Embeddings, ImageRows, Vision, VisionBatch, VisionInputs};
use crate::{
    Device, Error, ImageCacheUsage, NodeAssignment, Options, Request, Result, Scored, Times, Usage,
};

/// A reward model in an engine. Cheap to clone: clones share weights, threads and engine. Threads may share it; the runs of
/// each of its two graphs take turns, since one run uses all of the engine's threads.
#[derive(Clone)]
pub struct RewardModel(Arc<Inner>);

struct Inner {
    bundle: Bundle,
    options: Options,
    input: InputMode,
    rescaling: Rescaling,
    prompter: Prompter,
    vision: Option<Vision>,
    reward: Reward,
    reading: Reading,
    pool: ThreadPool,
    /// Its speed so far.
    pace: Mutex<Pace>,
}

impl RewardModel {
    /// Loads the bundle in `folder`.
    ///
    /// # Errors
    /// A broken bundle, one made for another device, a missing ONNX Runtime or device, an option outside its range.
    pub fn load(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        options.validate()?;
        let bundle = Bundle::open(folder.as_ref()).map_err(Error::Bundle)?;
        let manifest = bundle.manifest();
        options.check_device(manifest)?;
        let tokenizer = manifest.prompt.template.tokenizer(bundle.folder());
        let tokenizer = tokenizer.map_err(Error::Bundle)?;
        let reading = Reading::of(&manifest.reward_at, &tokenizer).map_err(Error::Bundle)?;
        let prompter = Prompter::new(tokenizer, manifest.prompt.clone()).map_err(Error::Bundle)?;
        Ok(Self(Arc::new(Inner {
            input: options.input_mode(manifest.input_mode)?,
            rescaling: Rescaling::of(manifest, options.scale)?,
            vision: Vision::open(&bundle, &options)?,
            reward: Reward::open(&bundle, &options, reading)?,
            reading,
            pool: pool(&options)?,
            pace: Mutex::default(),
            prompter,
            options,
            bundle,
        })))
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.0.options.device
    }

    /// The options that it was loaded with.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// The size of a request.
    pub(crate) fn load_of(&self, request: &Request) -> Load {
        Load::of(request, self.0.bundle.manifest(), &self.0.options)
    }

    /// The model's speed so far.
    pub(crate) fn pace(&self) -> Pace {
        *lock(&self.0.pace)
    }

    /// The execution provider of each node of the graphs.
    pub fn node_assignments(&self) -> impl Iterator<Item = &NodeAssignment> {
        let vision = self.0.vision.iter().map(|vision| &vision.graph);
        let graphs = vision.chain([&self.0.reward.graph]);
        graphs.flat_map(|graph| &graph.assignments)
    }

    /// The nodes that the device's own provider left to another. On a GPU a few that compute with shapes stay on the CPU; more
    /// than that is slow.
    pub fn fallback_nodes(&self) -> impl Iterator<Item = &NodeAssignment> {
        let own = self.device().provider();
        self.node_assignments()
            .filter(move |assignment| assignment.provider != own)
    }

    /// The parts of a request that both the bundle and the options show to the model.
    pub fn input_mode(&self) -> InputMode {
        self.0.input
    }

    /// The state of the cache of image embeddings, if the bundle has vision and the options give it memory.
    pub fn image_cache(&self) -> Option<ImageCacheUsage> {
        let cache = self.0.vision.as_ref()?.cache.as_ref()?;
        Some(cache.usage())
    }

    /// Scores requests: the rewards of each, or its own error. Batching depends on the requests alone, so equal calls give equal
    /// bits. Memory grows with the pixels and embeddings of the call's images.
    ///
    /// # Errors
    /// The engine failed: no request is scored.
    pub fn score(&self, requests: &[Request]) -> Result<Scored> {
        self.run(self.prepare(requests)?)
    }

    /// The part of [`score`](Self::score) that needs no engine: reads, decodes and cuts images, tokenises, packs. So a thread may
    /// prepare the next call while another runs this one.
    ///
    /// # Errors
    /// The requests cannot be packed. A request's own error is inside, and comes out of [`run`](Self::run).
    pub fn prepare(&self, requests: &[Request]) -> Result<Prepared> {
        let (inner, start) = (&*self.0, Instant::now());
        let prepared = inner.pool.install(|| {
            let inputs = inner.vision_inputs(requests);
            let tokenized = inner.tokenize(requests, inputs.requests);
            let packing = packing(inner.bundle.manifest(), &inner.options);
            Prepared::new(inputs.batch, tokenized, &inner.bundle, &packing)
        });
        Ok(Prepared {
            time: start.elapsed(),
            ..prepared?
        })
    }

    /// The part of [`score`](Self::score) that is the engine's. Requests that a model of the same bundle and options prepared on
    /// another device may run here.
    ///
    /// # Errors
    /// The engine failed, or the requests were prepared for another bundle: no request is scored.
    pub fn run(&self, prepared: Prepared) -> Result<Scored> {
        self.run_on(self.0.rescaling, prepared)
    }

    /// Like [`score`](Self::score), on the scale of the trainer's rewards.
    pub(crate) fn score_unwhitened(&self, requests: &[Request]) -> Result<Scored> {
        self.run_on(
            self.0.rescaling.without_whitening(),
            self.prepare(requests)?,
        )
    }

    fn run_on(&self, scale: Rescaling, prepared: Prepared) -> Result<Scored> {
        let (inner, mut usage) = (&*self.0, Usage::default());
        if prepared.bundle != inner.bundle.hash() {
            let problem = "the requests were prepared for another bundle";
            return Err(Error::Options(problem.to_owned()));
        }
        let embeddings = inner.encode(prepared.images, &mut usage)?;
        let valid = prepared.requests.iter().flatten();
        let unscored = |info: &RequestInfo| vec![0.0; info.truncated.len()];
        let mut rewards: Vec<Vec<f32>> = valid.map(unscored).collect();
        for run in &prepared.runs {
            let values = inner.reward.run(run, &embeddings, &mut usage)?;
            for (&(request, response), value) in run.places.iter().zip(values) {
                rewards[request][response] = value;
            }
        }
        lock(&inner.pace).add(&usage);
        let times = Times {
            queue: Duration::ZERO,
            prepare: prepared.time,
            vision: usage.vision,
            reward: usage.engine - usage.vision,
        };
        let mut rewards = rewards.into_iter();
        let mut scores = |info: RequestInfo| {
            info.add_to(&mut usage);
            let rewards = inner.scaled(scale, rewards.next().unwrap_or_default())?;
            Ok(info.scores(rewards, times))
        };
        let requests = prepared.requests.into_iter();
        let results = requests.map(|info| scores(info?)).collect();
        Ok(Scored { results, usage })
    }
}

impl Inner {
    /// The images that the model sees of the requests.
    fn vision_inputs(&self, requests: &[Request]) -> VisionInputs {
        match (&self.vision, self.input) {
            (None, mode) => no_images(requests, mode),
            (Some(vision), InputMode::TextOnly) => vision.white(requests.len()),
            (Some(vision), _) => vision.images(requests),
        }
    }

    fn tokenize<'a>(
        &self,
        requests: &'a [Request],
        images: Vec<Result<Vec<ImageRows>>>,
    ) -> Vec<Result<Tokenized<'a>>> {
        let pairs = requests.par_iter().zip(images);
        pairs
            .map(|(request, images)| self.tokenize_one(request, images?))
            .collect()
    }

    fn tokenize_one<'a>(
        &self,
        request: &'a Request,
        images: Vec<ImageRows>,
    ) -> Result<Tokenized<'a>> {
        if request.responses.is_empty() {
            return Err(Error::NoResponses);
        }
        let prompt = request.prompt.seen(self.input);
        let extents: Vec<Extent> = images.iter().map(|image| image.extent).collect();
        let shared = self.prompter.shared(&prompt, &extents);
        let shared = shared.map_err(Error::Prompt)?;
        let conversation = |response: &String| {
            let read = shared.conversation(response)?;
            self.reading.check(&read.ids).map(|()| read)
        };
        let conversations: Result<_, _> = request.responses.iter().map(conversation).collect();
        Ok(Tokenized {
            conversations: conversations.map_err(Error::Prompt)?,
            prompt,
            images,
        })
    }

    fn encode(&self, images: VisionBatch, usage: &mut Usage) -> Result<Embeddings> {
        match &self.vision {
            Some(vision) => vision.encode(images, usage),
            None => Ok(Embeddings::none(self.bundle.manifest().image_width)),
        }
    }

    /// The rewards on a scale; refuses NaN and infinity.
    fn scaled(&self, scale: Rescaling, mut rewards: Vec<f32>) -> Result<Vec<f32>> {
        if let Some(index) = rewards.iter().position(|reward| !reward.is_finite()) {
            return Err(Error::NotFinite {
                response: index + 1,
                reward: rewards[index],
                precision: self.bundle.manifest().precision,
            });
        }
        rewards.iter_mut().for_each(|r| *r = scale.apply(*r));
        Ok(rewards)
    }
}

/// The inputs of a model without vision; asked for the text alone, it needs no images.
fn no_images(requests: &[Request], mode: InputMode) -> VisionInputs {
    let images = |request: &Request| match request.images.len() {
        images if images > 0 && mode != InputMode::TextOnly => Err(Error::NoVision { images }),
        _ => Ok(Vec::new()),
    };
    VisionInputs {
        batch: VisionBatch::Images(Vec::new()),
        requests: requests.iter().map(images).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool(options: &Options) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(options.thread_count());
    builder
        .build()
        .map_err(|e| Error::Options(format!("threads: {e}")))
}

#[cfg(test)]
mod tests {
    use seeward_models::forest::Packing;

    use super::*;
    use crate::Image;

    fn golden(path: &str) -> std::path::PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        folder.join(path)
    }

    fn model() -> RewardModel {
        RewardModel::load(golden("bundles/qwen2"), Options::default()).unwrap()
    }

    fn request() -> Request {
        Request::new("what color is the shape?").responses(["blue", "It is a yellow circle."])
    }

    /// As on a GPU, whose rows are padded: of one document, and of several in one row.
    #[test]
    fn padded_rows_give_the_same_rewards() {
        let model = model();
        let image = || Image::path(golden("images/vqa0.png"));
        let requests = [request().image(image()), request(), request().response("?")];
        let inner = &*model.0;
        let rewards = |row_multiple: usize| -> Vec<f32> {
            let packing = Packing {
                row_multiple,
                ..packing(inner.bundle.manifest(), &inner.options)
            };
            let inputs = inner.vision_inputs(&requests);
            let tokenized = inner.tokenize(&requests, inputs.requests);
            let prepared = Prepared::new(inputs.batch, tokenized, &inner.bundle, &packing);
            let prepared = prepared.unwrap();
            for run in &prepared.runs {
                assert_eq!(run.forest.tokens() % row_multiple, 0);
            }
            let scored = model.run(prepared).unwrap();
            let results = scored.results.into_iter();
            results.flat_map(|result| result.unwrap().rewards).collect()
        };
        let [plain, padded]: [Vec<f32>; 2] = [1, 64].map(rewards);
        assert_eq!(plain.len(), 7);
        for (plain, padded) in plain.iter().zip(&padded) {
            let error = (plain - padded).abs();
            assert!(error <= 1e-5 * plain.abs().max(1.0), "{plain} and {padded}");
        }
    }

    #[test]
    fn a_bound_run_gives_the_same_bits() {
        let (plain, mut bound) = (model(), model());
        let inner = Arc::get_mut(&mut bound.0).unwrap();
        inner.reward.graph.bound = true;
        inner.vision.as_mut().unwrap().graph.bound = true;
        let image = Image::path(golden("images/vqa0.png"));
        // The second run has no image embeddings at all.
        for request in [request().image(image), request()] {
            let rewards = |model: &RewardModel| {
                let scored = model.score(std::slice::from_ref(&request)).unwrap();
                let rewards = &scored.results[0].as_ref().unwrap().rewards;
                rewards.iter().map(|r| r.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(rewards(&bound), rewards(&plain));
        }
    }
}
