//! The library against the rewards of the published implementation, and against itself: packed, cut up, repeated.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayView3};
use seeward_runtime::models::{Error as Cause, ImageFault};
use seeward_runtime::{
    Bundle, Device, Error, Image, InputMode, Message, NodeAssignment, Options, Request,
    RewardModel, Rgb, Scored,
};
use serde_json::Value;

/// Correct fp32 evaluations differ by up to 3e-6.
const TOLERANCE: f32 = 1e-4;
/// (row, response) with the pad token written out, where the published code reads the reward; here it is the last token.
const PAD_TOKEN: (usize, usize) = (6, 0);

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(path)
}

fn model(options: Options) -> RewardModel {
    RewardModel::load(golden("bundles/qwen2"), options).unwrap()
}

fn seeing(input: InputMode) -> RewardModel {
    model(Options::default().input(input))
}

fn strings(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

/// The golden rows as requests.
fn requests() -> Vec<Request> {
    let text = fs::read_to_string(golden("forward/qwen2/cases.jsonl")).unwrap();
    let request = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let image = golden("forward/qwen2").join(row["img_path"].as_str().unwrap());
        Request::new(row["prompt"].as_str().unwrap())
            .image(image)
            .responses(strings(&row["responses"]))
    };
    text.lines().map(request).collect()
}

/// Every response as a request.
fn separate(requests: &[Request]) -> Vec<Request> {
    let alone = |request: &Request, response: &String| {
        let mut alone = request.clone();
        alone.responses = vec![response.clone()];
        alone
    };
    let split = |request: &Request| {
        let responses = request.responses.iter();
        responses.map(|r| alone(request, r)).collect::<Vec<_>>()
    };
    requests.iter().flat_map(split).collect()
}

fn rewards(scored: &Scored) -> Vec<f32> {
    let results = scored.results.iter();
    results
        .flat_map(|result| result.as_ref().unwrap().rewards.clone())
        .collect()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{index}: {got} instead of {expected}");
    }
}

fn agrees_with_the_published_rewards(block: &str, model: &RewardModel) {
    let text = fs::read_to_string(golden("forward/qwen2/golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let requests = requests();
    let scored = model.score(&requests).unwrap();
    let results = golden[block]["results"].as_array().unwrap();
    let mut compared = 0;
    for result in results {
        let index = |key: &str| result[key].as_u64().unwrap() as usize;
        let (row, response) = (index("row"), index("response"));
        let expected = result["reward"].as_f64().unwrap() as f32;
        let got = scored.results[row].as_ref().unwrap().rewards[response];
        if (row, response) != PAD_TOKEN {
            assert_close(&[got], &[expected], TOLERANCE);
            compared += 1;
        }
    }
    assert_eq!(compared, 17);
}

#[test]
fn rewards_are_the_published_ones_in_every_input_mode() {
    for (block, input) in [
        ("full", InputMode::Full),
        ("text_only", InputMode::TextOnly),
        ("image_only", InputMode::ImageOnly),
    ] {
        agrees_with_the_published_rewards(block, &seeing(input));
    }
}

/// Bundles in int8 of version 0.2, whose rows have one scale each. Attention rounds differently without AVX-512.
#[test]
fn an_old_bundle_in_int8_gives_its_rewards() {
    let model = RewardModel::load(golden("bundles/qwen2_int8_0.2"), Options::default()).unwrap();
    let text = fs::read_to_string(golden("bundles/qwen2_int8_0.2.jsonl")).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let image = golden("forward/qwen2").join(text("img_path"));
        let request = Request::new(text("prompt"))
            .image(image)
            .responses([text("response")]);
        let got = rewards(&model.score(&[request]).unwrap());
        assert_close(&got, &[row["score"].as_f64().unwrap() as f32], 1e-2);
    }
    let advice = model.bundle().manifest().outdated_precision().unwrap();
    assert!(advice.contains("export again"), "{advice}");
}

/// The same graphs under a manifest of each version.
#[test]
fn a_bundle_of_version_1_gives_the_bits_of_version_2() {
    let old = golden("bundles/qwen2");
    let new = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&old).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, new.path().join(path.file_name().unwrap())).unwrap();
    }
    let manifest = Bundle::open(&old).unwrap().manifest().clone();
    let manifest = serde_json::to_string(&manifest).unwrap();
    fs::write(new.path().join("reward_model.json"), manifest).unwrap();
    let version = |folder: &Path| -> Value {
        let text = fs::read_to_string(folder.join("reward_model.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["format_version"].clone()
    };
    assert_eq!([version(&old), version(new.path())], [1, 2]);
    let bits = |folder: &Path| -> Vec<u32> {
        let model = RewardModel::load(folder, Options::default()).unwrap();
        let scored = rewards(&model.score(&requests()).unwrap());
        scored.into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&old), bits(new.path()));
}

#[test]
fn responses_share_prompt_and_image_and_score_as_they_do_alone() {
    let (model, requests) = (model(Options::default()), requests());
    let packed = model.score(&requests).unwrap();
    // A request for each response, in one call and in one call each.
    let flat = model.score(&separate(&requests)).unwrap();
    let alone = separate(&requests)
        .into_iter()
        .map(|request| model.score(&[request]));
    let alone: Vec<Scored> = alone.map(Result::unwrap).collect();
    let single: Vec<f32> = alone.iter().flat_map(rewards).collect();
    assert_close(&rewards(&packed), &single, 1e-5);
    assert_close(&rewards(&flat), &single, 1e-5);
    let (p, f) = (packed.usage, flat.usage);
    let tokens: u64 = alone.iter().map(|scored| scored.usage.tokens).sum();
    assert_eq!((p.responses, f.responses), (18, 18));
    assert_eq!((p.images_encoded, f.images_encoded), (8, 8));
    assert_eq!(
        (p.tokens_without_sharing, f.tokens_without_sharing),
        (tokens, tokens)
    );
    assert_eq!(p.tokens, f.tokens);
    assert!(p.tokens * 3 < tokens * 2, "{} of {tokens} tokens", p.tokens);
}

#[test]
fn small_runs_score_as_large_ones() {
    let requests = requests();
    let whole = model(Options::default()).score(&requests).unwrap();
    let cut = Options::default().batch_tokens(1).threads(1);
    let cut = model(cut).score(&requests).unwrap();
    assert_close(&rewards(&cut), &rewards(&whole), 1e-5);
    assert_eq!(cut.usage.tokens, cut.usage.tokens_without_sharing);
}

#[test]
fn equal_calls_give_equal_bits() {
    let (model, requests) = (model(Options::default()), requests());
    let (first, second) = (
        model.score(&requests).unwrap(),
        model.score(&requests).unwrap(),
    );
    assert_eq!(rewards(&first), rewards(&second));
}

#[test]
fn paths_bytes_and_pixels_are_the_same_image() {
    let path = golden("images/vqa0.png");
    let bytes = fs::read(&path).unwrap();
    let pixels = seeward_models::image::decode(&bytes, 1 << 20).unwrap();
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    let array = ArrayView3::from_shape((height, width, 3), pixels.pixels()).unwrap();
    let images = [
        Image::from(path),
        bytes.into(),
        Image::pixels(array),
        pixels.clone().into(),
    ];
    let request = Request::new("what color is the shape?").response("The shape is blue.");
    let requests = images.map(|image| request.clone().image(image));
    let scored = model(Options::default()).score(&requests).unwrap();
    let rewards = rewards(&scored);
    assert_close(&rewards[1..], &[rewards[0]; 3], 1e-5);
    // The file, as path and as bytes, is one image; its pixels, as array and as `Rgb`, are another.
    assert_eq!(scored.usage.images_encoded, 2);
}

#[test]
fn the_white_image_is_encoded_once() {
    let (model, requests) = (seeing(InputMode::TextOnly), requests());
    let usage = model.score(&requests).unwrap().usage;
    assert_eq!((usage.images_encoded, usage.tiles), (1, 1));
    assert_eq!(model.score(&requests).unwrap().usage.images_encoded, 0);
}

#[test]
fn a_bad_request_has_its_own_error_and_spoils_no_other() {
    let (model, mut requests) = (model(Options::default()), requests());
    requests.truncate(2);
    let alone = rewards(&model.score(&requests).unwrap());
    let bad = |change: fn(&mut Request)| {
        let mut request = requests[0].clone();
        change(&mut request);
        request
    };
    let all = vec![
        bad(|r| r.images = vec![Image::path("no/such.png")]),
        requests[0].clone(),
        bad(|r| r.images = vec![Image::bytes(*b"junk")]),
        bad(|r| r.responses.clear()),
        bad(|r| r.prompt = "<IMG_CONTEXT>".into()),
        requests[1].clone(),
    ];
    let results = model.score(&all).unwrap().results;
    for (index, expected) in [
        (0, "image no/such.png: "),
        (2, "image 1: not an image"),
        (3, "responses: expected at least one"),
        (4, "prompt: a literal <IMG_CONTEXT>"),
    ] {
        let message = results[index].as_ref().unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    let good = [1, 5].map(|index| results[index].as_ref().unwrap().rewards.clone());
    assert_close(&good.concat(), &alone, 1e-5);
}

#[test]
fn responses_of_a_conversation_share_its_history() {
    let history = |first: &str| {
        vec![
            Message::system("Answer in one word."),
            Message::user(first),
            Message::assistant("A circle."),
            Message::user("And in <image>?"),
        ]
    };
    let request = |first: &str| {
        let images = ["vqa0", "vqa1"].map(|name| golden(&format!("images/{name}.png")));
        Request::new(history(first))
            .images(images)
            .responses(["Red.", "It is blue.", ""])
    };
    let (model, one) = (
        model(Options::default()),
        [request("<image>\nWhat is this?")],
    );
    let together = model.score(&one).unwrap();
    let alone = model.score(&separate(&one)).unwrap();
    assert_close(&rewards(&together), &rewards(&alone), 1e-5);
    let usage = together.usage;
    assert_eq!((usage.responses, usage.images_encoded), (3, 2));
    assert!(usage.tokens < usage.tokens_without_sharing / 2, "{usage:?}");
    let other = model.score(&[request("<image>\nWhat was this?")]).unwrap();
    assert_ne!(rewards(&other), rewards(&together));
    for mode in [InputMode::TextOnly, InputMode::ImageOnly] {
        assert!(rewards(&seeing(mode).score(&one).unwrap()).len() == 3);
    }
}

#[test]
fn the_cause_of_an_error_can_be_matched() {
    let request = || Request::new("what is this?").response("A shape.");
    let one_image = Image::path(golden("images/vqa0.png"));
    let wide = Array3::zeros((2, 2, 4));
    let results = |options: Options, requests: &[Request]| {
        let results = model(options).score(requests).unwrap().results;
        results.into_iter().map(Result::unwrap_err)
    };
    let images = [
        Image::path("no/such.png"),
        Image::bytes(*b"junk"),
        wide.into(),
    ];
    let images = images.map(|image| request().image(image));
    let faults = results(Options::default(), &images).map(|error| match error {
        Error::Image { error, .. } => match error.cause() {
            Cause::Image { fault, .. } => *fault,
            cause => panic!("{cause}"),
        },
        error => panic!("{error}"),
    });
    let expected = [
        ImageFault::Unreadable,
        ImageFault::Format,
        ImageFault::Content,
    ];
    assert!(faults.eq(expected));

    let mut tags = request().images([one_image.clone(), one_image.clone()]);
    tags.prompt = "<image> is this?".into();
    let error = results(Options::default(), &[tags]).next().unwrap();
    let Error::Prompt(cause) = &error else {
        panic!("{error}");
    };
    let expected = |cause: &Cause| matches!(cause, Cause::ImageTags { tags: 1, images: 2 });
    assert!(expected(cause.cause()), "{error}");
}

#[test]
fn text_alone_needs_no_image() {
    let request = Request::new("Is water wet?").responses(["Yes.", ""]);
    let scored = model(Options::default()).score(&[request]).unwrap();
    assert_eq!(scored.usage.images_encoded, 0);
    assert!(rewards(&scored).iter().all(|reward| reward.is_finite()));
}

#[test]
fn a_bundle_without_vision_refuses_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reward_model.json");
    for entry in fs::read_dir(golden("bundles/qwen2")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let files = manifest["files"].as_object_mut().unwrap();
    files.retain(|name, _| !name.starts_with("vision.onnx"));
    fs::write(&path, manifest.to_string()).unwrap();
    let load = |input| RewardModel::load(folder.path(), Options::default().input(input)).unwrap();
    let results = load(InputMode::Full)
        .score(&requests()[..1])
        .unwrap()
        .results;
    let message = results[0].as_ref().unwrap_err().to_string();
    assert!(message.contains("no vision graph"), "{message}");
    let text_only = load(InputMode::TextOnly).score(&requests()[..1]).unwrap();
    assert_eq!(rewards(&text_only).len(), 2);
}

#[test]
fn a_missing_device_is_an_error() {
    // No machine has a thousand GPUs, so this holds on one with the GPU build too.
    for device in [Device::Cuda(1000), Device::Tensorrt(1000)] {
        let options = Options::default().device(device);
        let error = RewardModel::load(golden("bundles/qwen2"), options)
            .err()
            .unwrap();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("device {device}: ")),
            "{message}"
        );
    }
}

#[test]
fn a_changed_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("bundles/qwen2")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let error = RewardModel::load(folder.path(), Options::default())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("has changed since the export"),
        "{error}"
    );
}

#[test]
fn threads_may_share_a_model() {
    fn shared<T: Send + Sync>(_: &T) {}
    let model = model(Options::default());
    shared(&model);
    let request = Request::default().image(Rgb::white()).response("a");
    let score = || rewards(&model.score(std::slice::from_ref(&request)).unwrap());
    let expected = score();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(score)).collect();
        threads
            .into_iter()
            .for_each(|t| assert_eq!(t.join().unwrap(), expected));
    });
}

#[test]
fn every_node_has_its_provider() {
    let model = model(Options::default());
    let assignments: Vec<&NodeAssignment> = model.node_assignments().collect();
    let graphs: Vec<&str> = assignments.iter().map(|a| a.graph).collect();
    assert_eq!(graphs, ["vision.onnx", "reward.onnx"]);
    for assignment in assignments {
        assert_eq!(assignment.provider, "CPUExecutionProvider");
        assert!(assignment.operators["MatMul"] > 1, "{assignment}");
    }
    assert_eq!(model.fallback_nodes().count(), 0);
    // Compared with another device's provider, all nodes would be fallback nodes.
    let own = Device::Cuda(0).provider();
    let mut assignments = model.node_assignments();
    assert!(assignments.all(|assignment| assignment.provider != own));
}
