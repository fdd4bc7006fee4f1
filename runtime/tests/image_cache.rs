//! Embeddings that are kept: equal bits, less work.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use seeward_models::image::decode;
use seeward_runtime::{Image, Options, Request, RewardModel, Usage};

fn golden(path: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    folder.join(path)
}

fn model(bytes: u64) -> RewardModel {
    let options = Options::default().image_cache_bytes(bytes);
    RewardModel::load(golden("bundles/qwen2"), options).unwrap()
}

fn request(image: impl Into<Image>, prompt: &str) -> Request {
    let request = Request::new(prompt).image(image);
    request.responses(["A shape.", "It is blue, I think."])
}

fn score(model: &RewardModel, request: &Request) -> (Vec<u32>, Usage) {
    let scored = model.score(std::slice::from_ref(request)).unwrap();
    let rewards = &scored.results[0].as_ref().unwrap().rewards;
    (rewards.iter().map(|r| r.to_bits()).collect(), scored.usage)
}

#[test]
fn cached_images_give_equal_bits_without_the_vision_graph() {
    let (plain, cached) = (model(0), model(1 << 20));
    assert!(plain.image_cache().is_none());
    for (round, prompt) in ["what is this?", "what is this?", "and its color?"]
        .iter()
        .enumerate()
    {
        for image in ["images/vqa0.png", "images/wide.png"] {
            let request = request(golden(image), prompt);
            let (rewards, usage) = score(&cached, &request);
            assert_eq!(rewards, score(&plain, &request).0);
            let is_first = round == 0;
            assert_eq!(usage.images_encoded, u64::from(is_first));
            assert_eq!(usage.images_cached, u64::from(!is_first));
            assert_eq!(usage.tiles_cached > 0, !is_first);
        }
    }
    let usage = cached.image_cache().unwrap();
    assert_eq!((usage.images, usage.hits, usage.misses), (2, 4, 2));
}

#[test]
fn an_image_is_known_by_its_content() {
    let model = model(1 << 20);
    let bytes = std::fs::read(golden("images/vqa0.png")).unwrap();
    let pixels = decode(&bytes, 1 << 24).unwrap();
    let file = score(&model, &request(golden("images/vqa0.png"), "what is this?"));
    let same = score(&model, &request(bytes, "what is this?"));
    assert_eq!((same.0, same.1.images_encoded), (file.0.clone(), 0));
    // Pixels have another key than the file that they come from; the rewards are the same.
    let decoded = score(&model, &request(pixels, "what is this?"));
    assert_eq!((decoded.0, decoded.1.images_encoded), (file.0, 1));
}

#[test]
fn an_image_that_is_encoded_meanwhile_is_not_encoded_again() {
    let model = model(1 << 20);
    let request = request(golden("images/vqa0.png"), "what is this?");
    let prepared = [(); 2].map(|()| model.prepare(std::slice::from_ref(&request)).unwrap());
    let encoded = prepared.map(|p| model.run(p).unwrap().usage.images_encoded);
    assert_eq!(encoded, [1, 0]);
}
