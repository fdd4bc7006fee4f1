//! Clients that others wrote get the library's rewards, which are `seeward-score`'s.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use seeward_runtime::{Message, Request};
use serde_json::{Value, json};
use support::{Server, assert_close, expected, golden, model};

/// How many rewards each client asks for, one for each form that it can send.
const CLIENTS: [(&str, usize); 5] = [
    ("openai", 3),
    ("huggingface_hub", 1),
    ("openrlhf", 2),
    ("ms-swift", 5),
    ("verl", 2),
];
/// The calls of reward functions in the trainers' files.
const CALLS: u64 = 8;

/// Runs `real_clients.py`.
fn answers(open: &Server, keyed: &Server) -> Value {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let third_party = crate_folder.join("../../third_party");
    assert!(
        third_party.join("clients").exists() && third_party.join("trainers").exists(),
        "third_party/clients and third_party/trainers are missing: `make test` or `scripts/setup.py --clients` fetches them"
    );
    let output = Command::new("python3")
        .arg("-B")
        .arg(crate_folder.join("tests/real_clients.py"))
        .args([third_party, crate_folder.join("clients")])
        .arg(golden("images/vqa0.png"))
        .args([open, keyed].map(|server| format!("http://{}", server.address)))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn clients_of_others_get_the_librarys_rewards() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "secret\n").unwrap();
    let root = golden("images");
    let open = Server::start(&["--labels", "images", "--image-root", root.to_str().unwrap()]);
    let keyed = Server::start(&["--api-key-file", keys.path().to_str().unwrap()]);
    let answers = answers(&open, &keyed);
    let asked = Request::new(vec![Message::user("<image>\nwhat color?")]);
    let asked = asked.image(golden("images/vqa0.png")).response("Red.");
    let red = expected(&model(), asked)[0];
    for (client, count) in CLIENTS {
        let rewards = answers["rewards"][client].as_array().unwrap();
        assert_eq!(rewards.len(), count, "{client}");
        for reward in rewards {
            assert_close(reward.as_f64().unwrap() as f32, red);
        }
    }
    // Their own errors, and their own retries: three of them were answered 503 first.
    let errors = json!(["AuthenticationError", "UnprocessableEntityError"]);
    assert_eq!(answers["openai_errors"], errors);
    assert_eq!(
        (&answers["verl_status"], &answers["busy"]),
        (&json!(422), &json!(6))
    );
    assert_eq!(answers["signatures"], CALLS, "{answers}");
}
