//! Many callers of one model: batches, backpressure, cancellation, closing.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use seeward_runtime::{
    Answer, BatchConfig, Batcher, Error, Image, Options, Request, RewardModel, Scale, Scores,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
/// Longer than any test takes: with this delay and an announcement, a batch waits until it is full or the queue closed.
const FOREVER: Duration = Duration::from_secs(3600);

fn model() -> RewardModel {
    RewardModel::load(Path::new(GOLDEN).join("bundles/qwen2"), Options::default()).unwrap()
}

fn request(number: usize) -> Request {
    Request::new(format!("what is in image {number}?"))
        .image(Path::new(GOLDEN).join("images/vqa0.png"))
        .responses(["A shape.".to_owned(), format!("It is {number}.")])
}

fn batcher(max_batch_size: usize) -> Batcher {
    let config = BatchConfig::default()
        .max_batch_size(max_batch_size)
        .max_delay(FOREVER);
    Batcher::new(model(), config).unwrap()
}

#[track_caller]
fn assert_alone(number: usize, scores: &Scores, model: &RewardModel) {
    let alone = model.score(&[request(number)]).unwrap().results.remove(0);
    for (got, expected) in scores.rewards.iter().zip(alone.unwrap().rewards) {
        let differs = (got - expected).abs();
        assert!(
            differs <= 1e-5 * expected.abs().max(1.0),
            "{got} {expected}"
        );
    }
}

#[test]
fn requests_of_several_callers_share_a_batch() {
    let (batcher, model) = (batcher(8), model());
    let _announced = batcher.announce();
    let answers: Vec<Answer> = (0..8)
        .map(|n| batcher.submit(request(n)).unwrap())
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_alone(number, &answer.wait().unwrap(), &model);
    }
    let usage = batcher.usage();
    // Their image is encoded once, so they were one batch.
    assert_eq!((usage.responses, usage.images_encoded), (16, 1));
}

#[test]
fn blocking_callers_wait_for_room() {
    // Room for one request and, in an empty queue, for another one.
    let config = BatchConfig::default().max_batch_size(2).queue_bytes(1);
    let (batcher, model) = (Batcher::new(model(), config).unwrap(), model());
    thread::scope(|scope| {
        for number in 0..12 {
            let (batcher, model) = (batcher.clone(), &model);
            scope.spawn(move || {
                let scores = batcher.score(request(number)).unwrap();
                assert_alone(number, &scores, model);
            });
        }
    });
    assert_eq!(batcher.usage().responses, 24);
}

#[test]
fn a_full_queue_refuses_requests_until_one_is_cancelled() {
    let config = BatchConfig::default().max_delay(FOREVER);
    let batcher = Batcher::new(model(), config.queue_bytes(1_300)).unwrap();
    let announced = batcher.announce();
    let [first, second] = [0, 1].map(|n| batcher.submit(request(n)).unwrap());
    assert!(matches!(
        batcher.submit(request(2)),
        Err(Error::QueueFull {
            capacity: 1_300,
            ..
        })
    ));
    drop(first);
    let third = batcher.submit(request(3)).unwrap();
    assert_eq!(batcher.status().waiting, 2);
    assert!(batcher.status().waiting_bytes > 1_000);
    // Closing does not wait for a full batch, and answers accepted requests.
    batcher.close();
    assert!(second.wait().is_ok() && third.wait().is_ok());
    drop(announced);
    assert_eq!(batcher.usage().responses, 4, "the cancelled one was scored");
    assert!(matches!(batcher.submit(request(4)), Err(Error::Closed)));
    assert!(matches!(batcher.score(request(4)), Err(Error::Closed)));
}

#[test]
fn the_last_handle_closes_the_queue() {
    let batcher = batcher(8);
    let _announced = batcher.announce();
    let answer = batcher.submit(request(0)).unwrap();
    drop(batcher.clone());
    drop(batcher);
    assert_eq!(answer.wait().unwrap().rewards.len(), 2);
}

#[test]
fn a_lonely_request_waits_for_announced_ones_only() {
    let batcher = batcher(8);
    let scores = batcher.score(request(0)).unwrap();
    assert!(scores.times.queue < Duration::from_secs(60));
    let announced = batcher.announce();
    let answer = batcher.submit(request(1)).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(batcher.status().waiting, 1);
    drop(announced);
    let times = answer.wait().unwrap().times;
    assert!(times.queue >= Duration::from_millis(20));
    assert!(times.vision > Duration::ZERO && times.reward > Duration::ZERO);
}

#[test]
fn an_announced_request_that_does_not_come_delays_others_by_the_delay() {
    let config = BatchConfig::default().max_delay(Duration::from_millis(10));
    let batcher = Batcher::new(model(), config).unwrap();
    let _announced = batcher.announce();
    let queued = batcher.score(request(0)).unwrap().times.queue;
    assert!(queued >= Duration::from_millis(10), "{queued:?}");
}

#[test]
fn single_requests_of_one_prompt_are_scored_as_one() {
    let responses: Vec<String> = (0..16).map(|n| format!("It is {n}.")).collect();
    let model = model();
    let whole = || Request::new("what is this?").image(Path::new(GOLDEN).join("images/vqa0.png"));
    let together = model.score(&[whole().responses(&responses)]).unwrap();
    let batcher = batcher(16);
    let announced = batcher.announce();
    // Requests of another prompt between them.
    let mut answers = Vec::new();
    for (number, response) in responses.iter().take(15).enumerate() {
        answers.push(batcher.submit(whole().response(response)).unwrap());
        if number == 7 {
            drop(batcher.submit(request(number)).unwrap());
        }
    }
    drop(announced);
    let answers: Vec<Scores> = answers.into_iter().map(|a| a.wait().unwrap()).collect();
    let expected = &together.results[0].as_ref().unwrap().rewards;
    for (got, expected) in answers.iter().zip(expected) {
        assert!((got.rewards[0] - expected).abs() <= 1e-5 * expected.abs().max(1.0));
        assert!(got.tokens > got.tiles && got.tiles > 0);
    }
    let usage = batcher.usage();
    assert_eq!(usage.images_encoded, 1);
    assert!(usage.tokens < together.usage.tokens, "{usage:?}");
}

#[test]
fn a_bad_request_spoils_no_other_of_its_batch() {
    let (batcher, model) = (batcher(3), model());
    let _announced = batcher.announce();
    let mut bad = request(1);
    bad.images = vec![Image::bytes(*b"junk")];
    let answers = [request(0), bad, request(2)].map(|r| batcher.submit(r).unwrap());
    let [first, bad, last] = answers.map(Answer::wait);
    assert_alone(0, &first.unwrap(), &model);
    assert!(matches!(bad, Err(Error::Image { .. })));
    assert_alone(2, &last.unwrap(), &model);
}

#[test]
fn answers_are_futures_of_any_executor() {
    let (batcher, model) = (batcher(4), model());
    let _announced = batcher.announce();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        // A dropped future cancels its request: the batch of four is filled by the others.
        let impatient = batcher.submit(request(9)).unwrap();
        let timeout = tokio::time::timeout(Duration::from_millis(5), impatient).await;
        assert!(timeout.is_err());
        let answers: Vec<Answer> = (0..4)
            .map(|n| batcher.submit(request(n)).unwrap())
            .collect();
        for (number, answer) in answers.into_iter().enumerate() {
            assert_alone(number, &answer.await.unwrap(), &model);
        }
    });
    assert_eq!(batcher.usage().responses, 8);
}

#[test]
fn models_of_one_bundle_share_the_queue() {
    let config = BatchConfig::default().max_batch_size(1);
    let bundle = Path::new(GOLDEN).join("bundles/qwen2");
    let options = Options::default().image_cache_bytes(1 << 20);
    let load = || RewardModel::load(&bundle, options.clone()).unwrap();
    let models = vec![load(), load()];
    let batcher = Batcher::of(models.clone(), config.clone()).unwrap();
    let answers: Vec<Answer> = (0..40)
        .map(|n| batcher.submit(request(n)).unwrap())
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_alone(number, &answer.wait().unwrap(), &models[0]);
    }
    assert_eq!(batcher.usage().responses, 80);
    assert_eq!(batcher.status().running, None);
    // Each has encoded the image, and the other images came from its cache.
    let misses = |model: &RewardModel| model.image_cache().unwrap().misses;
    assert!(models.iter().all(|model| misses(model) == 1));
    let none = Batcher::of(Vec::new(), config.clone()).err().unwrap();
    assert_eq!(none.to_string(), "batcher: expected a model, got none");
    let int8 = Path::new(GOLDEN).join("bundles/qwen2_int8_0.2");
    let other = RewardModel::load(int8, Options::default()).unwrap();
    let unlike = Batcher::of(vec![model(), other], config).err().unwrap();
    assert!(unlike.to_string().contains("the same bundle"), "{unlike}");
}

#[test]
fn empty_batches_and_queues_are_refused() {
    let config = BatchConfig::default;
    for (config, name) in [
        (config().max_batch_size(0), "max_batch_size"),
        (config().queue_bytes(0), "queue_bytes"),
    ] {
        let error = Batcher::new(model(), config).err().unwrap().to_string();
        assert_eq!(error, format!("{name}: expected at least 1, got 0"));
    }
}

#[test]
fn rewards_are_whitened_by_the_bundles_mean_and_deviation() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(GOLDEN).join("bundles/qwen2")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("reward_model.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut load = |mean: serde_json::Value, deviation: serde_json::Value| {
        manifest["reward_mean"] = mean;
        manifest["reward_std"] = deviation;
        std::fs::write(&path, manifest.to_string()).unwrap();
        RewardModel::load(folder.path(), Options::default().scale(Scale::Whitened))
    };
    let whitened = load(0.5.into(), 0.25.into()).unwrap();
    let other = whitened.run(model().prepare(&[request(0)]).unwrap());
    let message = other.unwrap_err().to_string();
    assert!(message.contains("for another bundle"), "{message}");
    let score = |model: &RewardModel| model.score(&[request(0)]).unwrap().results.remove(0);
    let (raw, white) = (score(&model()).unwrap(), score(&whitened).unwrap());
    for (raw, white) in raw.rewards.iter().zip(white.rewards) {
        assert!((white - (raw - 0.5) / 0.25).abs() < 1e-5, "{raw} {white}");
    }
    for (mean, deviation) in [(().into(), ().into()), (0.5.into(), 0.0.into())] {
        let message = load(mean, deviation).err().unwrap().to_string();
        assert!(
            message.contains("reward_mean and a positive reward_std"),
            "{message}"
        );
    }
}
