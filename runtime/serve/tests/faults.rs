//! Load, slow and absent clients, and the end: nothing that was accepted is lost.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Server, golden, post, read};

fn question(number: usize) -> Value {
    json!({"prompt": format!("Is {number} odd?"), "responses": ["Yes.", "No."]})
}

/// Many requests at once, a connection each: their statuses.
fn burst(server: &Server, count: usize) -> Vec<u16> {
    thread::scope(|scope| {
        let ask = |number| move || server.post("/v1/rewards", &question(number)).status;
        let asked: Vec<_> = (0..count).map(|number| scope.spawn(ask(number))).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Time for the headers of a request to be read, from when on the engine waits for its body; nothing shows when.
fn let_it_announce() {
    thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_burst_waits_instead_of_being_refused() {
    // Room for a few bodies and connections only.
    let flags = [
        "--queue-bytes",
        "8192",
        "--max-body",
        "4096",
        "--max-connections",
        "16",
    ];
    let server = Server::start(&flags);
    assert_eq!(burst(&server, 300), vec![200; 300]);
    assert_eq!(server.metric("seeward_responses_total"), 600.0);
    assert_eq!(server.metric("seeward_queue_requests"), 0.0);
}

#[test]
fn images_in_memory_are_bounded() {
    let root = golden("images");
    let size = std::fs::metadata(root.join("vqa0.png")).unwrap().len() as usize;
    let room = 5;
    let bytes = (room * (size.div_ceil(1024) * 1024)).to_string();
    let flags = [
        "--image-root",
        root.to_str().unwrap(),
        "--queue-bytes",
        &bytes,
        "--max-body",
        "4096",
    ];
    let server = Server::start(&flags);
    let row = json!({"prompt": "q", "images": ["vqa0.png"], "responses": ["r"]});
    let refused = |count: usize| {
        let reply = server
            .post(
                "/v1/rewards",
                &json!({"requests": vec![row.clone(); count]}),
            )
            .json();
        let results = reply["results"].as_array().unwrap().clone();
        let errors = results.iter().filter_map(|result| result.get("error"));
        errors
            .inspect(|error| assert_eq!(error["code"], 503, "{error}"))
            .count()
    };
    // What was answered leaves its room to others.
    assert_eq!([refused(room), refused(room + 2), refused(room)], [0, 2, 0]);
}

#[test]
fn slow_clients_are_closed_and_others_answered_meanwhile() {
    let server = Server::start(&["--header-timeout", "0.3", "--body-timeout", "0.3"]);
    let start = Instant::now();
    let mut header = server.connect();
    header
        .write_all(b"POST /v1/rewards HTTP/1.1\r\nhost:")
        .unwrap();
    let mut body = server.connect();
    let request = post("/v1/rewards", &question(1).to_string());
    body.write_all(&request.as_bytes()[..request.len() - 1])
        .unwrap();
    assert_eq!(server.post("/v1/rewards", &question(2)).status, 200);
    assert_eq!(read(&mut header).status, 0, "closed without an answer");
    let reply = read(&mut body);
    assert_eq!(
        (reply.status, reply.error()),
        (408, "the body came too slowly".to_owned())
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_client_that_leaves_cancels_its_requests() {
    let server = Server::start(&["--batch-delay", "30"]);
    // A body that does not end keeps the engine waiting for it.
    let mut slow = server.connect();
    let request = post("/v1/rewards", &question(0).to_string());
    slow.write_all(&request.as_bytes()[..request.len() - 1])
        .unwrap();
    let_it_announce();
    let mut leaving: Vec<_> = (1..9).map(|_| server.connect()).collect();
    for (number, stream) in leaving.iter_mut().enumerate() {
        let request = post("/v1/rewards", &question(number).to_string());
        stream.write_all(request.as_bytes()).unwrap();
    }
    let wait_for = |name: &str, value: f64| {
        let start = Instant::now();
        while server.metric(name) != value {
            assert!(
                start.elapsed() < PATIENCE,
                "{name} is {}",
                server.metric(name)
            );
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for("seeward_queue_requests", 8.0);
    drop(leaving);
    wait_for("seeward_queue_requests", 0.0);
    wait_for("seeward_cancelled_total", 8.0);
    slow.write_all(&request.as_bytes()[request.len() - 1..])
        .unwrap();
    assert_eq!(read(&mut slow).status, 200);
    assert_eq!(server.metric("seeward_responses_total"), 2.0);
}

#[test]
fn sigterm_answers_everything_that_was_accepted() {
    let image = golden("images");
    let flags = [
        "--drain-delay",
        "0.5",
        "--body-timeout",
        "1",
        "--image-root",
    ];
    let flags = [&flags[..], &[image.to_str().unwrap()]].concat();
    let mut server = Server::start(&flags);
    let mut half = server.connect();
    half.write_all(b"POST /v1/rewards HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        .unwrap();
    let mut open: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for (number, stream) in open.iter_mut().enumerate() {
        let mut question = question(number);
        let image = ["vqa0.png", "wide.png", "tall.png"][number % 3];
        question["images"] = json!([image]);
        stream
            .write_all(post("/v1/rewards", &question.to_string()).as_bytes())
            .unwrap();
    }
    server.signal("TERM");
    server.wait_for_status(503);
    assert_eq!(server.get("/live").status, 200);
    // Within the delay the service still answers.
    assert_eq!(server.post("/v1/rewards", &question(7)).status, 200);
    let statuses: Vec<u16> = open.iter_mut().map(|stream| read(stream).status).collect();
    assert_eq!(statuses, vec![200; 100]);
    assert_eq!(read(&mut half).status, 408);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut server = Server::start(&["--drain-delay", "600"]);
        server.signal("TERM");
        server.wait_for_status(503);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
    }
}

#[test]
fn a_request_that_takes_too_long_is_cancelled() {
    let server = Server::start(&["--request-timeout", "0.2", "--batch-delay", "30"]);
    let mut slow = server.connect();
    slow.write_all(b"POST /v1/rewards HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        .unwrap();
    let_it_announce();
    let reply = server.post("/v1/rewards", &question(1));
    assert_eq!(reply.status, 200);
    let error = &reply.json()["results"][0]["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!(504), &json!("timeout_error"))
    );
    let reply = server.post("/remote_rm", &json!({"prompt": "q", "response": "r"}));
    assert_eq!(reply.status, 504);
    assert_eq!(server.metric("seeward_queue_requests"), 0.0);
}

#[test]
fn isolated_rewards_do_not_depend_on_other_requests() {
    let server = Server::start(&["--isolate"]);
    let ask = |number: usize| {
        server.post("/v1/rewards", &question(number)).json()["results"][0].to_string()
    };
    let alone: Vec<String> = (0..12).map(ask).collect();
    let together: Vec<String> = thread::scope(|scope| {
        let asked: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || ask(number)))
            .collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(together, alone);
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let bundle = golden("bundles/qwen2");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_seeward-serve"))
        .args([
            "--model",
            bundle.to_str().unwrap(),
            "--listen",
            &format!("unix:{}", path.display()),
        ])
        .spawn()
        .unwrap();
    let get = |path: &std::path::Path| {
        let mut stream = std::os::unix::net::UnixStream::connect(path).ok()?;
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(())
    };
    let start = Instant::now();
    while get(&path).is_none() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    std::process::Command::new("kill")
        .args(["-s", "INT", &id])
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success() && !path.exists());
}
