//! Images at http addresses, from a host on loopback.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seeward_runtime::{Message, Request};
use serde_json::{Value, json};
use support::{Server, assert_close, expected, golden, model};

/// A host with one image; `/slow` never answers.
struct Site {
    address: String,
    seen: Arc<AtomicUsize>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let image = std::fs::read(golden("images/vqa0.png")).unwrap();
        thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                silent.extend(answer(stream.unwrap(), &image));
            }
        });
        Self { address, seen }
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Answers a request; a connection that gets no answer is handed back, so that it stays open.
fn answer(mut stream: TcpStream, image: &[u8]) -> Option<TcpStream> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap();
    if request[..length].starts_with(b"GET /slow") {
        return Some(stream);
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", image.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(image).unwrap();
    None
}

fn row(address: &str) -> Value {
    let prompt = json!([{"role": "user", "content": "<image>\nwhat color?"}]);
    json!({"messages": prompt, "images": [address], "responses": ["Red."]})
}

#[test]
fn every_format_may_name_images_by_address() {
    let site = Site::start();
    let flags = [
        "--image-host",
        &site.address,
        "--image-host-private",
        "--labels",
        "images",
    ];
    let server = Server::start(&flags);
    let asked = Request::new(vec![Message::user("<image>\nwhat color?")]);
    let asked = asked.image(golden("images/vqa0.png")).response("Red.");
    let red = expected(&model(), asked)[0];
    let is_red = |reward: &Value| assert_close(reward.as_f64().unwrap() as f32, red);
    let address = site.at("/a.png");
    // Equal addresses of a request are fetched once.
    let rows = json!({"requests": [row(&address), row(&address)]});
    let reply = server.post("/v1/rewards", &rows).json();
    (0..2).for_each(|index| is_red(&reply["results"][index]["rewards"][0]));
    assert_eq!(site.seen.load(Ordering::SeqCst), 1);
    let part = json!({"type": "image_url", "image_url": {"url": address}});
    let content = json!([part, {"type": "text", "text": "what color?"}]);
    let messages =
        json!([{"role": "user", "content": content}, {"role": "assistant", "content": "Red."}]);
    let body = json!({"messages": messages, "use_activation": false});
    let reply = server.post("/classify", &body).json();
    is_red(&reply["data"][0]["probs"][0]);
    let body = json!({"prompt": "<image>\nwhat color?", "response": "Red.", "label": address});
    is_red(&server.post("/remote_rm", &body).json());
}

#[test]
fn what_is_not_fetched_spoils_its_row_alone() {
    let site = Site::start();
    let server = Server::start(&["--image-host", &site.address]);
    let gone = "http://127.0.0.1:9/a.png";
    let text = json!({"prompt": "Is water wet?", "responses": ["Yes."]});
    let rows = json!({"requests": [row(&site.at("/a.png")), row(gone), text]});
    let results = server.post("/v1/rewards", &rows).json();
    let error = |index: usize| results["results"][index]["error"]["message"].to_string();
    // Named, but in a private network.
    assert!(error(0).contains(": not fetched"), "{results}");
    assert!(server.logs("which may not be asked"));
    assert!(error(1).contains("(--image-host permits it)"), "{results}");
    assert!(results["results"][2]["rewards"][0].is_number(), "{results}");
    assert_eq!(site.seen.load(Ordering::SeqCst), 0);
    let reply = server.post(
        "/remote_rm",
        &json!({"prompt": "q", "response": "r", "label": {"image": gone}}),
    );
    assert_eq!(reply.status, 422, "{reply:?}");
}

#[test]
fn fetched_images_in_memory_are_bounded() {
    let site = Site::start();
    let size = std::fs::metadata(golden("images/vqa0.png")).unwrap().len() as usize;
    // For the image and the copies of two rows.
    let room = (3 * size.div_ceil(1024) * 1024).to_string();
    let flags = [
        "--image-host",
        &site.address,
        "--image-host-private",
        "--queue-bytes",
        &room,
        "--max-body",
        &room,
    ];
    let server = Server::start(&flags);
    let refused = |count: usize| {
        let rows = vec![row(&site.at("/a.png")); count];
        let reply = server
            .post("/v1/rewards", &json!({ "requests": rows }))
            .json();
        let results = reply["results"].as_array().unwrap().clone();
        let errors = results.iter().filter_map(|result| result.get("error"));
        errors
            .inspect(|error| assert_eq!(error["code"], 503, "{error}"))
            .count()
    };
    assert_eq!([refused(2), refused(3), refused(2)], [0, 1, 0]);
}

#[test]
fn a_slow_host_delays_nobody_else() {
    let site = Site::start();
    let flags = [
        "--image-host",
        &site.address,
        "--image-host-private",
        "--request-timeout",
        "3",
    ];
    let server = Server::start(&flags);
    let start = Instant::now();
    let waiting: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = server.connect();
            let body = row(&site.at(&format!("/slow/{number}"))).to_string();
            stream
                .write_all(support::post("/v1/rewards", &body).as_bytes())
                .unwrap();
            stream
        })
        .collect();
    let text = json!({"prompt": "Is water wet?", "responses": ["Yes."]});
    assert_eq!(server.post("/v1/rewards", &text).status, 200);
    assert!(start.elapsed() < Duration::from_secs(3));
    for mut stream in waiting {
        let reply = support::read(&mut stream).json();
        assert_eq!(reply["results"][0]["error"]["code"], 504, "{reply}");
    }
}
