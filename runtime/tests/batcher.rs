//! Many callers of one model: batches, backpressure, cancellation, the end.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use seeward_runtime::{
    Answer, Batcher, Batching, Error, Image, Options, Request, RewardModel, Scale, Scores,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
/// Longer than any test takes: batches that wait so long wait to be full, or closed.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn model() -> RewardModel {
    RewardModel::load(Path::new(GOLDEN).join("bundles/qwen2"), Options::default()).unwrap()
}

fn request(number: usize) -> Request {
    Request {
        prompt: format!("what is in picture {number}?"),
        images: vec![Image::Path(Path::new(GOLDEN).join("images/vqa0.png"))],
        responses: vec!["A shape.".to_owned(), format!("It is {number}.")],
    }
}

fn batcher(requests: usize, waiting: usize, delay: Duration) -> Batcher {
    let batching = Batching {
        requests,
        delay,
        waiting,
    };
    Batcher::new(model(), batching).unwrap()
}

#[track_caller]
fn assert_alone(number: usize, scores: &Scores, model: &RewardModel) {
    let alone = model.score(&[request(number)]).unwrap().results.remove(0);
    for (got, expected) in scores.rewards.iter().zip(alone.unwrap().rewards) {
        let apart = (got - expected).abs();
        assert!(apart <= 1e-5 * expected.abs().max(1.0), "{got} {expected}");
    }
}

#[test]
fn requests_of_several_callers_share_a_batch() {
    let (batcher, model) = (batcher(8, 8, FOR_EVER), model());
    let answers: Vec<Answer> = (0..8)
        .map(|n| batcher.submit(request(n)).unwrap())
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_alone(number, &answer.wait().unwrap(), &model);
    }
    let usage = batcher.usage();
    // Their picture is encoded once, so they went together.
    assert_eq!((usage.responses, usage.images_encoded), (16, 1));
}

#[test]
fn callers_that_block_wait_for_room() {
    let (batcher, model) = (batcher(2, 1, Duration::ZERO), model());
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
fn a_full_queue_is_busy_until_a_request_is_cancelled() {
    let batcher = batcher(8, 2, FOR_EVER);
    let [first, second] = [0, 1].map(|n| batcher.submit(request(n)).unwrap());
    assert!(matches!(
        batcher.submit(request(2)),
        Err(Error::Busy { waiting: 2 })
    ));
    drop(first);
    let third = batcher.submit(request(3)).unwrap();
    // Closing does not wait for company, and answers what was taken.
    batcher.close();
    assert!(second.wait().is_ok() && third.wait().is_ok());
    assert_eq!(batcher.usage().responses, 4, "the cancelled one was scored");
    assert!(matches!(batcher.submit(request(4)), Err(Error::Closed)));
    assert!(matches!(batcher.score(request(4)), Err(Error::Closed)));
}

#[test]
fn the_last_handle_closes_the_queue() {
    let batcher = batcher(8, 8, FOR_EVER);
    let answer = batcher.submit(request(0)).unwrap();
    drop(batcher.clone());
    drop(batcher);
    assert_eq!(answer.wait().unwrap().rewards.len(), 2);
}

#[test]
fn a_lonely_request_waits_no_longer_than_the_delay() {
    let batcher = batcher(8, 8, Duration::from_millis(1));
    assert!(batcher.score(request(0)).is_ok());
}

#[test]
fn a_bad_request_spoils_no_other_of_its_batch() {
    let (batcher, model) = (batcher(3, 3, FOR_EVER), model());
    let bad = Request {
        images: vec![Image::Bytes(b"junk".to_vec())],
        ..request(1)
    };
    let answers = [request(0), bad, request(2)].map(|r| batcher.submit(r).unwrap());
    let [first, bad, last] = answers.map(Answer::wait);
    assert_alone(0, &first.unwrap(), &model);
    assert!(matches!(bad, Err(Error::Image { .. })));
    assert_alone(2, &last.unwrap(), &model);
}

#[test]
fn answers_are_futures_of_any_executor() {
    let (batcher, model) = (batcher(4, 4, FOR_EVER), model());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        // A future that is given up takes its request along: the batch of four is filled by the others.
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
fn batches_of_nothing_are_refused() {
    for (requests, waiting, name) in [(0, 1, "requests"), (1, 0, "waiting")] {
        let batching = Batching {
            requests,
            waiting,
            ..Batching::default()
        };
        let error = Batcher::new(model(), batching).err().unwrap().to_string();
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
        let options = Options {
            scale: Scale::Whitened,
            ..Options::default()
        };
        RewardModel::load(folder.path(), options)
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
