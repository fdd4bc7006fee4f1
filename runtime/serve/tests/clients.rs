//! The reward functions of `clients/seeward_reward.py`, called as trainers call them.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use seeward_runtime::{Message, Request};
use serde_json::{Value, json};
use support::{Server, assert_close, expected, golden, model};

/// Calls of the functions with the keyword arguments that the trainers give them (`grpo_trainer.py` of TRL 1.16,
/// `grpo_algorithm.py` of ms-swift 4.6, `vision_rlvr.py` of AReaL 1.0, `naive.py` of verl 0.9).
const CALLS: &str = r#"
import json, os, sys
sys.path.insert(0, sys.argv[1])
import seeward_reward as s

class Pixels:
    def save(self, file, kind):
        assert kind == "PNG"
        file.write(open(IMAGE, "rb").read())

IMAGE = sys.argv[2]
question = [{"role": "user", "content": [{"type": "image", "image": Pixels()}, {"type": "text", "text": "what color?"}]}]
asked = [{"role": "user", "content": "<image>\nwhat color?"}]
answer = [{"role": "assistant", "content": "Red."}]
url = s.base64.b64encode(open(IMAGE, "rb").read()).decode()
rewards = {
    "trl": s.trl(prompts=[question, asked], completions=[answer, answer], completion_ids=[[1], [2]], image=[Pixels(), IMAGE],
                 trainer_state=None, log_extra=None, log_metric=None),
    "trl_text": s.trl(prompts=["what color?"], completions=["Red."], completion_ids=[[1]], images=[[IMAGE]]),
    "swift": s.Swift(None)(["Red."], messages=[asked + answer], images=[[{"bytes": None, "path": IMAGE}]], solution=["red"]),
    "areal": [s.areal(prompt="<|im_start|>", completions="Red.", prompt_ids=[1], completion_ids=[2], messages=json.dumps(asked),
                      images=["data:image/png;base64," + url], answer="red")],
    "verl": [s.verl(data_source="d", solution_str="Red.", ground_truth="red",
                    extra_info={"messages": asked, "images": [IMAGE], "index": 7})],
}
try:
    s.score([{"prompt": "<image>", "responses": ["r"]}])
except RuntimeError as error:
    rewards["error"] = str(error)
try:
    os.environ["SEEWARD_API_KEY"] = "wrong"
    s.score([{"prompt": "p", "responses": ["r"]}])
except RuntimeError as error:
    rewards["key"] = str(error)
print(json.dumps(rewards))
"#;

#[test]
fn trainers_reward_functions_give_the_librarys_rewards() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "secret\n").unwrap();
    let server = Server::start(&["--api-key-file", keys.path().to_str().unwrap()]);
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
    let output = Command::new("python3")
        .args(["-B", "-c", CALLS, clients])
        .arg(golden("images/vqa0.png"))
        .env("SEEWARD_URL", format!("http://{}", server.address))
        .env("SEEWARD_API_KEY", "secret")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let rewards: Value = serde_json::from_slice(&output.stdout).unwrap();
    let asked = Request::new(vec![Message::user("<image>\nwhat color?")]);
    let asked = asked.image(golden("images/vqa0.png")).response("Red.");
    let red = expected(&model(), asked)[0];
    for (name, count) in [
        ("trl", 2),
        ("trl_text", 1),
        ("swift", 1),
        ("areal", 1),
        ("verl", 1),
    ] {
        let rewards = rewards[name].as_array().unwrap();
        assert_eq!(rewards.len(), count, "{name}");
        rewards
            .iter()
            .for_each(|reward| assert_close(reward.as_f64().unwrap() as f32, red));
    }
    assert!(
        rewards["error"]
            .as_str()
            .unwrap()
            .starts_with("row 0: expected one <image>"),
        "{rewards}"
    );
    assert_eq!(
        rewards["key"].as_str().map(|error| error.contains("401")),
        Some(true),
        "{rewards}"
    );
    assert_eq!(json!(5 + 2), rewards.as_object().unwrap().len());
}
