//! An engine that fails or takes long, and requests that are damaged.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use seeward_models::hash::hash;
use serde_json::{Value, json};
use support::{PATIENCE, Server, golden, post, read};

/// A token that the golden bundle's embedding has in its last row.
const LAST: &str = "</box>";

/// The golden bundle without the last row of the embedding, so that ONNX Runtime fails at its token.
fn bundle_with_short_embedding(folder: &Path) {
    for entry in fs::read_dir(golden("bundles/qwen2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let graph = folder.join("reward.onnx");
    let mut bytes = fs::read(&graph).unwrap();
    // 772 rows of 64 floats: the dimension as a varint, and the bytes of the data.
    replace(&mut bytes, b"\x84\x06", b"\x83\x06");
    replace(&mut bytes, b"197632", b"197376");
    fs::write(&graph, &bytes).unwrap();
    let manifest = folder.join("reward_model.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    json["files"]["reward.onnx"] = json!(hash(bytes));
    fs::write(&manifest, json.to_string()).unwrap();
}

/// Replaces the only place of some bytes.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let windows = bytes.windows(from.len()).enumerate();
    let places: Vec<usize> = windows
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "{from:?}");
    bytes[places[0]..][..to.len()].copy_from_slice(to);
}

fn question(prompt: &str) -> Value {
    json!({"prompt": prompt, "responses": ["Yes."]})
}

#[test]
fn readiness_follows_an_engine_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    bundle_with_short_embedding(folder.path());
    let server = Server::of(folder.path(), &["--isolate"]);
    assert_eq!(server.post("/v1/rewards", &question("wet?")).status, 200);
    let bad = question(&format!("{LAST}wet?"));
    let reply = server.post("/v1/rewards", &bad).json();
    let error = &reply["results"][0]["error"];
    let expected = (&json!(500), &json!("engine_error"));
    assert_eq!((&error["code"], &error["type"]), expected, "{reply}");
    let sample = json!({"prompt": LAST, "response": "r"});
    assert_eq!(server.post("/remote_rm", &sample).status, 500);
    let ready = server.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.error().contains("Gather"), "{ready:?}");
    assert_eq!(server.get("/live").status, 200);
    assert!(server.logs("the engine failed"));
    // A failure is a batch's, not the service's.
    assert_eq!(server.post("/v1/rewards", &question("wet?")).status, 200);
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn readiness_follows_an_engine_that_takes_long() {
    let server = Server::start(&["--stall", "0.01"]);
    let responses: Vec<String> = (0..100).map(|n| format!("It is {n}. ").repeat(8)).collect();
    let body = json!({"prompt": "Which?", "responses": responses}).to_string();
    let mut busy = server.connect();
    busy.write_all(post("/v1/rewards", &body).as_bytes())
        .unwrap();
    let start = Instant::now();
    let ready = loop {
        let ready = server.get("/ready");
        if ready.status != 200 {
            break ready;
        }
        assert!(start.elapsed() < PATIENCE, "never stalled");
        thread::sleep(Duration::from_millis(1));
    };
    assert!(ready.error().starts_with("a run of the engine has taken"));
    assert_eq!(server.get("/live").status, 200);
    assert_eq!(read(&mut busy).status, 200);
    server.wait_for_status(200);
}

/// Clients that send damaged requests, and the requests of each.
const CLIENTS: usize = 16;
const EACH: usize = 30;

/// Random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Flips, removes, repeats or cuts a few bytes.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(damaged.len().max(1));
            match self.below(5) {
                0 => damaged.truncate(at),
                1 if !damaged.is_empty() => drop(damaged.remove(at)),
                2 => damaged.insert(at, self.below(256) as u8),
                _ => {
                    let byte = self.below(256) as u8;
                    damaged.get_mut(at).into_iter().for_each(|old| *old = byte);
                }
            }
        }
        damaged
    }
}

/// A request about an image, with its length.
fn about(image: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let image = base64::engine::general_purpose::STANDARD.encode(image);
    let image = json!({ "bytes": image });
    let body = json!({"prompt": "what?", "images": [image], "responses": ["Red."]});
    post("/v1/rewards", &body.to_string()).into_bytes()
}

#[test]
fn damaged_requests_are_answered_and_harm_nothing() {
    let server = Server::start(&["--header-timeout", "0.2", "--body-timeout", "0.2"]);
    let images = ["vqa0.png", "china.jpg", "alpha.png"];
    let images = images.map(|name| fs::read(golden(&format!("images/{name}"))).unwrap());
    let small = post("/v1/rewards", &question("wet?").to_string()).into_bytes();
    let ask = |client: u64| {
        let mut random = Random(client);
        let mut scored = 0;
        for number in 0..EACH {
            let request = match number % 2 {
                // The image is damaged, and the request is whole.
                0 => about(&random.damage(&images[number / 2 % images.len()])),
                _ => random.damage(&small),
            };
            let mut stream = server.connect();
            // It may be refused before its end.
            let _ = stream.write_all(&request);
            let reply = read(&mut stream);
            let known = [0, 200, 400, 404, 405, 408, 413, 415, 422, 431, 501, 505];
            assert!(known.contains(&reply.status), "{reply:?}");
            scored += usize::from(reply.status == 200 && reply.body.contains("\"rewards\""));
        }
        scored
    };
    let scored: usize = thread::scope(|scope| {
        let ask = &ask;
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|client| scope.spawn(move || ask(client)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    let all = CLIENTS * EACH;
    assert!(
        (all / 50..all / 2).contains(&scored),
        "{scored} of {all} scored"
    );
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(server.post("/v1/rewards", &question("wet?")).status, 200);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}
