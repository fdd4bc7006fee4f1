//! The example service, started on loopback and asked over HTTP.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/service.rs"]
mod example;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seeward_runtime::{BatchConfig, Batcher, Options, Request, RewardModel};
use serde_json::{Value, json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// Status and body of the answer.
fn post(address: SocketAddr, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /score HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Serves until the runtime is dropped.
fn start(runtime: &tokio::runtime::Runtime, batcher: Batcher) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, example::router(batcher)).await });
    address
}

#[test]
fn a_request_over_http_gets_the_rewards_of_the_library() {
    let model = RewardModel::load(format!("{GOLDEN}/bundles/qwen2"), Options::default()).unwrap();
    let image = std::fs::read(format!("{GOLDEN}/images/vqa0.png")).unwrap();
    let request = Request::new("what color is the shape?")
        .image(image.clone())
        .responses(["It is blue.", "I cannot tell."]);
    let expected = model.score(std::slice::from_ref(&request)).unwrap();
    let expected = expected.results[0].as_ref().unwrap().rewards.clone();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = start(
        &runtime,
        Batcher::new(model, BatchConfig::default()).unwrap(),
    );
    let good = json!({
        "prompt": request.prompt,
        "images": [STANDARD.encode(&image)],
        "responses": request.responses,
    })
    .to_string();
    let answers: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| post(address, &good)))
            .collect();
        callers.into_iter().map(|c| c.join().unwrap()).collect()
    });
    for (status, body) in answers {
        assert_eq!(status, 200, "{body}");
        for (got, expected) in body["rewards"].as_array().unwrap().iter().zip(&expected) {
            assert!(
                (got.as_f64().unwrap() as f32 - expected).abs() < 1e-5,
                "{body}"
            );
        }
        assert_eq!(body["truncated"], json!([false, false]));
    }

    for (body, problem) in [
        (
            json!({"prompt": "p", "responses": []}),
            "responses: expected at least one",
        ),
        (
            json!({"prompt": "p", "images": ["!"], "responses": ["a"]}),
            "images: ",
        ),
        (
            json!({"prompt": "p", "images": ["QUFB"], "responses": ["a"]}),
            "image 1: not an image",
        ),
    ] {
        let (status, answer) = post(address, &body.to_string());
        let message = answer["error"].as_str().unwrap();
        assert_eq!(status, 422, "{message}");
        assert!(message.starts_with(problem), "{message}");
    }
    assert!((400..500).contains(&post(address, "no JSON").0));
}
