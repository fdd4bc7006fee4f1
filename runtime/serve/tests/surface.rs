//! What holds for every route: errors of one shape, keys, images by path, and the routes that say how the service is.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use seeward_runtime::Request;
use serde_json::{Value, json};
use support::{Server, command, expected, golden, model, post};

fn question() -> Value {
    json!({"prompt": "Is water wet?", "responses": ["Yes."]})
}

#[test]
fn every_error_has_one_shape() {
    let server = Server::start(&["--max-body", "2000"]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let typed = |kind: &str| post("/v1/rewards", "{}").replace("application/json", kind);
    let large = question().to_string() + &" ".repeat(2000);
    let chunked = |body: &str| {
        format!(
            "POST /v1/rewards HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    for (request, status, expected) in [
        (post("/v1/rewards", "{"), 400, "the body is not JSON"),
        (post("/v1/rewards", ""), 400, "the body is not JSON"),
        (post("/get_reward", "\u{e9}"), 400, "the body is not JSON"),
        (
            post("/v1/rewards", "[]"),
            422,
            "the body: expected an object",
        ),
        (
            post("/v1/rewards", "{\"requests\":[],\"x\":1}"),
            422,
            "unknown field `x`",
        ),
        (post("/no/such", "{}"), 404, "no such route: /no/such"),
        (get("/v1/rewards"), 405, "GET is not for this route"),
        (
            typed("text/plain"),
            415,
            "expected content-type: application/json, got text/plain",
        ),
        (
            post("/v1/rewards", &large),
            413,
            "the body: expected at most 2000 bytes",
        ),
        (
            chunked(&large),
            413,
            "the body: expected at most 2000 bytes",
        ),
    ] {
        let reply = server.send(&request);
        assert_eq!(reply.status, status, "{request}: {reply:?}");
        let message = reply.error();
        assert!(message.starts_with(expected), "{message}");
        assert!(reply.head.contains("x-request-id: "));
    }
    let body = question().to_string();
    assert_eq!(server.send(&chunked(&body)).status, 200);
    // Nothing of this has harmed the engine.
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn several_devices_share_the_requests() {
    let server = Server::start(&["--device", "cpu,cpu", "--batch-requests", "1"]);
    let info = server.get("/info").json();
    assert_eq!(
        (&info["device"], &info["provider"]),
        (&json!("cpu,cpu"), &json!("CPUExecutionProvider"))
    );
    let known = expected(&model(), Request::new("Is water wet?").response("Yes."))[0];
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let reply = server.post("/v1/rewards", &question()).json();
                let reward = reply["results"][0]["rewards"][0].as_f64().unwrap();
                assert_eq!(reward as f32, known);
            });
        }
    });
    let unlike = command(&golden("bundles/qwen2"))
        .args(["--device", "cpu,cuda"])
        .output()
        .unwrap();
    let message = String::from_utf8(unlike.stderr).unwrap();
    assert!(
        !unlike.status.success() && message.contains("devices of one kind"),
        "{message}"
    );
}

#[test]
fn keys_guard_every_route_but_the_probes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "first\nsecond\n").unwrap();
    let server = Server::start(&["--api-key-file", file.path().to_str().unwrap()]);
    let with_key = |request: &str, key: &str| {
        server.send(&request.replacen("\r\n", &format!("\r\nauthorization: Bearer {key}\r\n"), 1))
    };
    for path in [
        "/v1/rewards",
        "/v1/chat/completions",
        "/get_reward",
        "/remote_rm",
        "/classify",
        "/no/such",
    ] {
        let reply = server.post(path, &question());
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.error().starts_with("expected an API key"));
        assert!(reply.head.contains("www-authenticate: bearer"));
        assert_eq!(with_key(&post(path, "{}"), "third").status, 401);
    }
    for path in ["/metrics", "/info", "/v1/models"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    for path in ["/live", "/ready", "/health"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let request = post("/v1/rewards", &question().to_string());
    assert_eq!(with_key(&request, "second").status, 200);
    assert!(!server.log().contains("second"));
}

#[test]
fn images_are_read_beneath_the_root_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::copy(golden("images/vqa0.png"), root.join("a.png")).unwrap();
    fs::copy(golden("images/vqa0.png"), folder.path().join("secret.png")).unwrap();
    std::os::unix::fs::symlink("../secret.png", root.join("out.png")).unwrap();
    fs::write(root.join("text.png"), "no image").unwrap();
    let server = Server::start(&[
        "--image-root",
        root.to_str().unwrap(),
        "--max-image-pixels",
        "20000",
    ]);
    let ask = |image: &str| {
        let request = json!({"prompt": "q", "images": [image], "responses": ["r"]});
        server.post("/v1/rewards", &request).json()["results"][0].clone()
    };
    let request = Request::new("q").image(root.join("a.png")).response("r");
    let known = expected(&model(), request)[0];
    for path in [
        "a.png".to_owned(),
        format!("file://{}/a.png", root.display()),
    ] {
        let got = ask(&path)["rewards"][0].as_f64().unwrap() as f32;
        assert_eq!(got, known);
    }
    let bomb = fs::read(golden("images/astro.png")).unwrap();
    fs::write(root.join("large.png"), bomb).unwrap();
    for (path, expected) in [
        ("../secret.png", "leads out of the image root"),
        ("out.png", "leads out of the image root"),
        ("/etc/passwd", "leads out of the image root"),
        ("none.png", "No such file"),
        ("text.png", "not an image of a known format"),
        ("large.png", "expected at most 20000 pixels"),
        ("https://example.org/a.png", "(--image-host permits it)"),
    ] {
        let message = ask(path)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{path}: {message}");
    }
}

#[test]
fn the_service_says_how_it_is() {
    let server = Server::start(&["--served-name", "shapes"]);
    let info = server.get("/info").json();
    assert_eq!(
        (&info["model"], &info["device"]),
        (&json!("shapes"), &json!("cpu"))
    );
    assert_eq!(info["probes"], "not checked: the bundle has no probes");
    assert!(server.logs("not compared with training"));
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "shapes");
    let ask = || server.post("/v1/rewards", &question());
    let reply = ask();
    for part in ["read;dur=", "queue;dur=", "prepare;dur=", "engine;dur="] {
        assert!(reply.head.contains(part), "{}", reply.head);
    }
    ask();
    assert_eq!(server.metric("seeward_responses_total"), 2.0);
    let requests = "seeward_requests_total{route=\"/v1/rewards\",status=\"200\"}";
    assert_eq!(server.metric(requests), 2.0);
    assert!(server.metric("seeward_memory_bytes") > 1e6);
    let named = post("/v1/rewards", "{}").replacen("\r\n", "\r\nx-request-id: mine-7\r\n", 1);
    assert!(server.send(&named).head.contains("x-request-id: mine-7"));
    assert!(server.logs("mine-7"));
}

#[test]
fn the_description_has_every_route() {
    let server = Server::start(&[]);
    let description = server.get("/openapi.json").json();
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    const ROUTER: &str = include_str!("../src/router.rs");
    let routes = ROUTER.split(".route(\"").skip(1);
    let routes: Vec<&str> = routes.map(|rest| rest.split('"').next().unwrap()).collect();
    let described = description["paths"].as_object().unwrap();
    assert_eq!(described.len() + 1, routes.len(), "all but the page");
    for route in routes.into_iter().filter(|route| *route != "/") {
        let method = if described[route].get("post").is_some() {
            "post"
        } else {
            "get"
        };
        let status = match method {
            "post" => server.send(&post(route, "{}")).status,
            _ => server.get(route).status,
        };
        assert!([200, 422].contains(&status), "{method} {route}: {status}");
    }
    assert!(server.get("/").body.contains("openapi.json"));
}

#[test]
fn a_repeated_image_is_encoded_once() {
    let root = golden("images");
    let server = Server::start(&["--image-root", root.to_str().unwrap()]);
    let ask = |prompt: &str| {
        let request = json!({"prompt": prompt, "images": ["vqa0.png"], "responses": ["r"]});
        server.post("/v1/rewards", &request).body
    };
    assert_eq!(ask("q"), ask("q"), "equal bits");
    ask("another question");
    assert_eq!(server.metric("seeward_images_encoded_total"), 1.0);
    assert_eq!(server.metric("seeward_image_cache_hits_total"), 2.0);
    assert!(server.metric("seeward_image_cache_bytes") > 0.0);
}

/// A copy of the golden bundle with a probe of these rewards.
fn probed(rewards: &[f32]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("bundles/qwen2")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("reward_model.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["probes"] = json!([{
        "prompt": "what color?", "images": [], "responses": RESPONSES, "pixels_version": 2, "rewards": rewards
    }]);
    fs::write(&path, manifest.to_string()).unwrap();
    folder
}

const RESPONSES: [&str; 3] = ["Red.", "It is blue, I am sure.", "7"];

#[test]
fn every_start_proves_the_rewards() {
    let request = Request::new("what color?").responses(RESPONSES);
    let mut rewards = expected(&model(), request);
    let bundle = probed(&rewards);
    let server = Server::of(bundle.path(), &[]);
    let found = server.get("/info").json()["probes"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(found.starts_with("as trained: 1 probes"), "{found}");
    rewards[1] += 0.01;
    let bundle = probed(&rewards);
    let status = command(bundle.path()).output().unwrap();
    assert_eq!(status.status.code(), Some(1));
    let log = String::from_utf8(status.stderr).unwrap();
    assert!(
        log.contains("the rewards are not those of training"),
        "{log}"
    );
    let server = Server::of(bundle.path(), &["--no-check"]);
    assert_eq!(
        server.get("/info").json()["probes"],
        "not checked: --no-check"
    );
}

#[test]
fn a_service_that_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (bundle, flags, expected) in [
        ("no/such", vec![], "--model no/such"),
        ("b", vec!["--image-root", "no/such"], "--image-root no/such"),
    ] {
        let output = command(Path::new(bundle)).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains(&format!("seeward-serve: error: {expected}")),
            "{message}"
        );
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seeward-serve"));
    let output = command
        .args(["--model", "b", "--listen", &address])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains(&format!("--listen {address}")),
        "{message}"
    );
}
