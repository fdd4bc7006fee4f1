//! Random trees: responses that share prompt, image and run score as each does alone.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use seeward_models::image::{Extent, ImageSettings, decode};
use seeward_models::prompt::Prompter;
use seeward_models::tokenizer::Tokenizer;
use seeward_runtime::{Image, Options, Request, RewardModel, Scored};

/// Three times the largest difference between correct fp32 evaluations of the golden rows.
const TOLERANCE: f32 = 1e-5;
/// A budget for runs of one response, and one for runs of whole trees.
const ALONE: usize = 1;
const WHOLE: usize = 4096;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(path)
}

fn text(words: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "It is", " a", " shape", " blue", "?", "\n", "é漢", " 7", "<br>",
    ]);
    prop::collection::vec(word, words).prop_map(|words| words.concat())
}

/// Equal and empty responses and such that begin alike among them.
fn request() -> impl Strategy<Value = Request> {
    let images = prop::sample::subsequence(vec!["vqa0.png", "wide.png", "gray.png"], 0..=2);
    let responses = prop::collection::vec(text(0..8), 1..7);
    (text(0..12), images, responses).prop_map(|(prompt, images, responses)| {
        let images = images.iter().map(|name| golden("images").join(name));
        Request::new(prompt).images(images).responses(responses)
    })
}

/// Every response as a request.
fn separate(requests: &[Request]) -> Vec<Request> {
    let alone = |request: &Request, response: &String| {
        let mut alone = request.clone();
        alone.responses = vec![response.clone()];
        alone
    };
    let each = |request: &Request| {
        let responses = request.responses.iter();
        responses.map(|r| alone(request, r)).collect::<Vec<_>>()
    };
    requests.iter().flat_map(each).collect()
}

/// Requests with equal prompt and images as one.
fn merged(requests: &[Request]) -> Vec<Request> {
    let mut merged: Vec<Request> = Vec::new();
    for request in requests {
        let is_kin =
            |r: &&mut Request| (&r.prompt, &r.images) == (&request.prompt, &request.images);
        match merged.iter_mut().find(is_kin) {
            Some(kin) => kin.responses.extend(request.responses.clone()),
            None => merged.push(request.clone()),
        }
    }
    merged
}

fn rewards(scored: &Scored) -> Vec<f32> {
    let results = scored.results.iter();
    let rewards = results.flat_map(|result| result.as_ref().unwrap().rewards.clone());
    rewards.collect()
}

/// The rewards of calls with one request each.
fn one_by_one(model: &RewardModel, requests: &[Request]) -> Vec<f32> {
    let call = |request| rewards(&model.score(std::slice::from_ref(request)).unwrap());
    requests.iter().flat_map(call).collect()
}

fn check_close(got: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let error = (got - expected).abs() / expected.abs().max(1.0);
        prop_assert!(error <= TOLERANCE, "{} instead of {}", got, expected);
    }
    Ok(())
}

/// The tokens and images that a call of whole trees should take, counted by hand.
struct Counter {
    prompter: Prompter,
    settings: ImageSettings,
}

impl Counter {
    fn new(model: &RewardModel) -> Self {
        let tokenizer = Tokenizer::open(model.bundle().folder()).unwrap();
        let manifest = model.bundle().manifest();
        Self {
            prompter: Prompter::new(tokenizer, manifest.prompt.clone()).unwrap(),
            settings: manifest.images,
        }
    }

    fn extent_of(&self, image: &Image) -> Extent {
        let Image::Path(path) = image else {
            panic!("these trees show files");
        };
        let image = decode(&fs::read(path).unwrap(), 1 << 24).unwrap();
        self.settings.cut(&image).unwrap().extent()
    }

    /// The prefix once, and of every response the tokens after it.
    fn tokens(&self, request: &Request) -> usize {
        let images: Vec<Extent> = request.images.iter().map(|i| self.extent_of(i)).collect();
        let ids = |response| {
            let conversation = self
                .prompter
                .conversation(&request.prompt, response, &images);
            conversation.unwrap().ids
        };
        let all: Vec<Vec<u32>> = request.responses.iter().map(|r| ids(r)).collect();
        let shortest = all.iter().map(Vec::len).min().unwrap();
        let shared = |n: &usize| all.iter().all(|ids| ids[*n] == all[0][*n]);
        let prefix = (0..shortest - 1).take_while(shared).count();
        prefix + all.iter().map(|ids| ids.len() - prefix).sum::<usize>()
    }

    fn images(requests: &[Request]) -> BTreeSet<String> {
        let images = requests.iter().flat_map(|request| &request.images);
        images.map(|image| format!("{image:?}")).collect()
    }
}

fn check(
    model: &RewardModel,
    batch_tokens: usize,
    requests: &[Request],
) -> Result<(), TestCaseError> {
    let single = one_by_one(model, &separate(requests));
    check_close(&one_by_one(model, requests), &single)?;
    let batch = model.score(requests).unwrap();
    check_close(&rewards(&batch), &single)?;
    // Who asked for a response makes no difference: a request for each is the same work.
    let flat = model.score(&separate(requests)).unwrap();
    check_close(&rewards(&flat), &single)?;
    let (usage, counter) = (batch.usage, Counter::new(model));
    let trees: usize = merged(requests).iter().map(|r| counter.tokens(r)).sum();
    let (tokens, separate) = (usage.tokens as usize, usage.tokens_without_sharing);
    match batch_tokens {
        // Rows of these lengths are nowhere near the point where a second prefix pays.
        WHOLE => prop_assert_eq!(tokens, trees),
        ALONE => prop_assert_eq!(usage.tokens, separate),
        _ => prop_assert!(trees <= tokens && usage.tokens <= separate),
    }
    prop_assert_eq!(flat.usage.tokens, usage.tokens);
    prop_assert_eq!(usage.responses as usize, single.len());
    prop_assert_eq!(
        usage.images_encoded as usize,
        Counter::images(requests).len()
    );
    Ok(())
}

#[test]
fn packed_is_batched_is_single() {
    // Runs of one response, of parts of a tree, and of several trees.
    for batch_tokens in [ALONE, 150, WHOLE] {
        let options = Options::default().batch_tokens(batch_tokens);
        let model = RewardModel::load(golden("bundles/qwen2"), options).unwrap();
        let mut runner = TestRunner::new(Config {
            cases: 12,
            rng_seed: RngSeed::Fixed(batch_tokens as u64),
            failure_persistence: None,
            ..Config::default()
        });
        let requests = prop::collection::vec(request(), 1..5);
        let outcome = runner.run(&requests, |requests| check(&model, batch_tokens, &requests));
        outcome.unwrap_or_else(|e| panic!("batch_tokens {batch_tokens}: {e}"));
    }
}

#[test]
fn equal_prompts_share_only_where_images_are_equal_too() {
    let model = RewardModel::load(golden("bundles/qwen2"), Options::default()).unwrap();
    let request = |image: Option<&str>, prompt: &str, response: &str| {
        let images = image.map(|name| golden("images").join(name));
        Request::new(prompt).images(images).response(response)
    };
    let bad = request(Some("missing.png"), "what is this?", "A shape.");
    let bytes = fs::read(golden("images/vqa0.png")).unwrap();
    let same_bytes = request(None, "what is this?", "It is 7.").image(bytes);
    let requests = [
        request(Some("vqa0.png"), "what is this?", "A shape."),
        request(Some("wide.png"), "what is this?", "A shape."),
        bad,
        request(None, "what is this?", "A shape."),
        same_bytes,
        request(Some("vqa0.png"), "and this?", "A shape."),
    ];
    let mut results = model.score(&requests).unwrap().results;
    assert!(results.remove(2).is_err());
    let got: Vec<f32> = results
        .into_iter()
        .flat_map(|r| r.unwrap().rewards)
        .collect();
    let scorable: Vec<Request> = requests
        .iter()
        .take(2)
        .chain(&requests[3..])
        .cloned()
        .collect();
    check_close(&got, &one_by_one(&model, &scorable)).unwrap();
    // The file and its bytes are one image, so the first and the last but one are one document.
    let alone = |requests: &[Request]| model.score(requests).unwrap().usage.tokens;
    let pair = [requests[0].clone(), requests[4].clone()];
    assert!(alone(&pair) < alone(&pair[..1]) + 16, "{}", alone(&pair));
    let differ = [requests[0].clone(), requests[5].clone()];
    assert_eq!(alone(&differ), alone(&differ[..1]) + alone(&differ[1..]));
}
