//! Every format, by the bytes that its clients send: the rewards are those of the library.
#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seeward_runtime::{Message, Request};
use serde_json::{Value, json};
use support::{Server, assert_close, expected, golden, model};

fn image() -> String {
    STANDARD.encode(std::fs::read(golden("images/vqa0.png")).unwrap())
}

fn data_url() -> String {
    format!("data:image/png;base64,{}", image())
}

fn reward(value: &Value) -> f32 {
    value.as_f64().unwrap_or_else(|| panic!("{value}")) as f32
}

/// The library's reward of "Red." as the answer to "what color?" about the image.
fn red() -> f32 {
    let messages = vec![Message::user("<image>\nwhat color?")];
    let request = Request::new(messages).image(golden("images/vqa0.png"));
    expected(&model(), request.response("Red."))[0]
}

#[test]
fn native_requests_are_rows() {
    let (server, model) = (Server::start(&[]), model());
    let about = |images: Value| json!({"prompt": "what color?", "images": images, "responses": ["Red.", "It is blue."]});
    let request = Request::new("what color?").image(golden("images/vqa0.png"));
    let rewards = expected(&model, request.responses(["Red.", "It is blue."]));
    for images in [
        json!([data_url()]),
        json!([{"bytes": image()}]),
        json!(image()),
    ] {
        let reply = server.post("/v1/rewards", &about(images));
        assert_eq!(reply.status, 200, "{reply:?}");
        let reply = reply.json();
        assert_eq!(reply["model"], "qwen2");
        for (got, expected) in rewards.iter().enumerate() {
            assert_close(reward(&reply["results"][0]["rewards"][got]), *expected);
        }
        assert_eq!(reply["results"][0]["truncated"], json!([false, false]));
        assert_eq!(reply["usage"]["responses"], 2);
        assert!(reply["usage"]["tiles"].as_u64() > Some(0));
    }
}

#[test]
fn errors_of_native_requests_are_their_own() {
    let server = Server::start(&[]);
    let good = json!({"prompt": "Is water wet?", "responses": ["Yes."]});
    let requests = json!([
        good,
        {"prompt": "p", "responses": []},
        {"prompt": "p", "responses": ["r"], "images": ["no/such.png"]},
        {"prompt": "<image>", "responses": ["r"]},
        {"prompt": "p", "responses": ["r"], "weight": 1},
        {"messages": [{"role": "user", "content": "<image>p"}, {"role": "assistant", "content": "r"}]},
        7,
        good,
    ]);
    let reply = server.post("/v1/rewards", &json!({"requests": requests}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let results = reply.json()["results"].as_array().unwrap().clone();
    let rewards = [0, 7].map(|index| reward(&results[index]["rewards"][0]));
    assert_eq!(rewards[0], rewards[1]);
    for (index, expected) in [
        (1, "responses: expected at least one"),
        (2, "image no/such.png: expected a data URL or base64"),
        (3, "expected one <image> in the prompt for each image"),
        (
            4,
            "weight: expected prompt or messages, images and responses",
        ),
        (5, "messages: expected one <image> in the prompt"),
        (6, "expected"),
    ] {
        let error = &results[index]["error"];
        assert_eq!(error["code"], 422, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(expected), "{index}: {message}");
    }
}

#[test]
fn chat_completions_score_the_last_message() {
    let server = Server::start(&[]);
    let chat = |content: Value, images: Value| {
        let messages = json!([
            {"role": "user", "content": content},
            {"role": "assistant", "content": "Red."}
        ]);
        let mut body =
            json!({"model": "dummy", "messages": messages, "stream": false, "temperature": 0});
        if !images.is_null() {
            body["images"] = images;
        }
        server.post("/v1/chat/completions", &body)
    };
    let part = |kind: &str, image: Value| json!([{"type": kind, kind: image}, {"type": "text", "text": "what color?"}]);
    // openai and huggingface_hub, then ms-swift in its three forms.
    for (content, images) in [
        (part("image_url", json!({"url": data_url()})), Value::Null),
        (part("image_url", json!(data_url())), Value::Null),
        (part("image", json!(data_url())), Value::Null),
        (json!("<image>what color?"), json!([image()])),
    ] {
        let reply = chat(content.clone(), images);
        assert_eq!(reply.status, 200, "{content}: {reply:?}");
        let reply = reply.json();
        assert_eq!(
            (&reply["model"], &reply["object"]),
            (&json!("dummy"), &json!("chat.completion"))
        );
        let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
        assert_close(content.parse().unwrap(), red());
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            reply["usage"]["prompt_tokens"],
            reply["usage"]["total_tokens"]
        );
    }
    let reply = chat(json!("<image>what color?"), Value::Null);
    assert_eq!(
        reply.status, 422,
        "a prompt without its image is no text: {reply:?}"
    );
}

#[test]
fn chat_completions_refuse_what_has_no_meaning_for_a_reward() {
    let server = Server::start(&[]);
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    for (key, value) in [
        ("stream", json!(true)),
        ("n", json!(2)),
        ("tools", json!([])),
        ("top", json!(1)),
    ] {
        let mut body = json!({"messages": messages});
        body[key] = value;
        let reply = server.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 422);
        assert!(reply.error().starts_with(key), "{reply:?}");
        assert_eq!(reply.json()["error"]["param"], key);
    }
    let open = json!({"messages": [{"role": "user", "content": "q"}]});
    let reply = server.post("/v1/chat/completions", &open);
    assert_eq!(reply.status, 422, "{reply:?}");
}

#[test]
fn openrlhf_and_its_multimodal_forks_are_understood() {
    let root = golden("images");
    let root = root.to_str().unwrap();
    let server = Server::start(&["--image-root", root, "--labels", "images"]);
    let prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>\nwhat color?<|im_end|>\n<|im_start|>assistant\n";
    let query = prompt.replace("<|image_pad|>", &"<|image_pad|>".repeat(9)) + "Red.<|im_end|>";
    let messages = |image: &str| json!([{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "what color?"}]}]);
    let absolute = format!("file://{root}/vqa0.png");
    for (prompt, label) in [
        // lmm-r1 and MM-EUREKA: the row's messages as text.
        (json!(messages(&absolute).to_string()), json!(null)),
        (
            json!(messages(&data_url()).to_string()),
            json!({"answer": "Red"}),
        ),
        // OpenRLHF: the templated prompt, with images in a column.
        (json!(prompt), json!("vqa0.png")),
        (json!(prompt), json!(["vqa0.png"])),
        (json!(prompt), json!({"image": "vqa0.png"})),
        (
            json!(prompt),
            json!({"images": ["vqa0.png"], "prompt": "<image>\nwhat color?"}),
        ),
    ] {
        let body =
            json!({"query": [query, query], "prompts": [prompt, prompt], "labels": [label, label]});
        let reply = server.post("/get_reward", &body);
        assert_eq!(reply.status, 200, "{prompt} {label}: {reply:?}");
        let reply = reply.json();
        for index in 0..2 {
            assert_close(reward(&reply["rewards"][index]), red());
        }
        assert_eq!(reply["rewards"], reply["scores"]);
        assert_eq!(reply["extra_logs"]["reward_truncated"], json!([0.0, 0.0]));
        assert!(reply["extra_logs"]["reward_tokens"][1].as_u64() > Some(10));
    }
}

#[test]
fn a_templated_prompt_without_its_image_is_never_scored_as_text() {
    let server = Server::start(&[]);
    let prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>q<|im_end|>\n<|im_start|>assistant\n";
    let query = format!("{prompt}Red.<|im_end|>");
    let body = json!({"query": [query], "prompts": [prompt], "labels": ["blue"]});
    let reply = server.post("/get_reward", &body);
    assert_eq!(
        (reply.status, reply.error().contains("--data.label_key")),
        (422, true)
    );
    for (body, expected) in [
        (
            json!({"query": ["a"], "prompts": [], "labels": []}),
            "prompts: expected one for each query",
        ),
        (
            json!({"query": ["x"], "prompts": ["q"]}),
            "query: expected the prompt at its beginning",
        ),
        (json!({"query": ["q"]}), "missing field `prompts`"),
    ] {
        let reply = server.post("/get_reward", &body);
        assert!(
            reply.status == 422 && reply.error().starts_with(expected),
            "{reply:?}"
        );
    }
}

#[test]
fn errors_get_a_reward_only_if_one_is_given() {
    let server = Server::start(&["--on-error-reward", "-1.5"]);
    let body =
        json!({"query": ["q?Yes.", "other"], "prompts": ["q?", "q?"], "labels": [null, null]});
    let reply = server.post("/get_reward", &body).json();
    assert_eq!(reply["rewards"][1], -1.5);
    assert_ne!(reply["rewards"][0], -1.5);
    assert_eq!(reply["extra_logs"]["reward_error"], json!([0.0, 1.0]));
    let body = json!({"prompt": "<image>q", "response": "r"});
    assert_eq!(server.post("/remote_rm", &body).body, "-1.5");
    assert!(server.logs("a sample got the reward of errors"));
    // What is no sample stays an error, and so does another format.
    assert_eq!(server.post("/get_reward", &json!({"query": 7})).status, 422);
    let row = json!({"prompt": "<image>", "responses": ["r"]});
    assert!(
        server
            .post("/v1/rewards", &row)
            .body
            .contains("expected one <image>")
    );
}

#[test]
fn slimes_remote_reward_is_a_bare_number() {
    let root = golden("images");
    let server = Server::start(&["--image-root", root.to_str().unwrap()]);
    let prompt = json!([{"role": "user", "content": [{"type": "image", "image": "vqa0.png"}, {"type": "text", "text": "what color?"}]}]);
    let body = json!({"prompt": prompt, "response": "Red.", "label": "red"});
    let reply = server.post("/remote_rm", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_close(reply.body.parse().unwrap(), red());
    let keyed = server.post("/remote_rm?key=score", &body).json();
    assert_close(reward(&keyed["score"]), red());
    let label = json!({"images": ["vqa0.png"]});
    let body = json!({"prompt": "<image>\nwhat color?", "response": "Red.", "label": label});
    assert_close(
        server.post("/remote_rm", &body).body.parse().unwrap(),
        red(),
    );
}

#[test]
fn vllms_classify_has_the_reward_as_its_logit() {
    let server = Server::start(&[]);
    let content = json!([{"type": "image_url", "image_url": {"url": data_url()}}, {"type": "text", "text": "what color?"}]);
    let messages =
        json!([{"role": "user", "content": content}, {"role": "assistant", "content": "Red."}]);
    let mut body = json!({"model": "m", "messages": messages, "use_activation": false});
    for path in ["/classify", "/v1/classify"] {
        let reply = server.post(path, &body).json();
        assert_close(reward(&reply["data"][0]["probs"][0]), red());
        assert_eq!(
            (&reply["data"][0]["num_classes"], &reply["model"]),
            (&json!(1), &json!("m"))
        );
    }
    body["use_activation"] = json!(null);
    let reply = server.post("/classify", &body);
    assert!(
        reply.status == 422 && reply.error().starts_with("use_activation"),
        "{reply:?}"
    );
    let reply = server.post("/classify", &json!({"input": "q", "use_activation": false}));
    assert!(
        reply.status == 422 && reply.error().starts_with("messages"),
        "{reply:?}"
    );
}

#[test]
fn single_posts_of_one_prompt_are_computed_as_one_request() {
    let (server, model) = (Server::start(&["--batch-delay", "30"]), model());
    let request = || Request::new("what color?").image(golden("images/vqa0.png"));
    let responses: Vec<String> = (0..24).map(|n| format!("It is {n}.")).collect();
    let whole = model.score(&[request().responses(&responses)]).unwrap();
    let url = data_url();
    // The body of the first arrives last: until then the others are announced, or wait for it.
    let slow = json!({"prompt": "what color?", "images": [url], "responses": [responses[0]]});
    let slow = support::post("/v1/rewards", &slow.to_string());
    let mut stream = server.connect();
    let (head, rest) = slow.split_at(slow.len() - 9);
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    std::thread::scope(|scope| {
        let answers: Vec<_> = responses[1..]
            .iter()
            .map(|response| {
                let body =
                    json!({"prompt": "what color?", "images": [url], "responses": [response]});
                let server = &server;
                scope.spawn(move || {
                    reward(&server.post("/v1/rewards", &body).json()["results"][0]["rewards"][0])
                })
            })
            .collect();
        let start = std::time::Instant::now();
        while server.metric("seeward_queue_requests") < 23.0 {
            assert!(start.elapsed() < support::PATIENCE);
        }
        std::io::Write::write_all(&mut stream, rest.as_bytes()).unwrap();
        assert_eq!(support::read(&mut stream).status, 200);
        let rewards = &whole.results[0].as_ref().unwrap().rewards;
        for (answer, expected) in answers.into_iter().zip(&rewards[1..]) {
            assert_close(answer.join().unwrap(), *expected);
        }
    });
    assert_eq!(
        server.metric("seeward_tokens_total"),
        whole.usage.tokens as f64
    );
    assert_eq!(server.metric("seeward_images_encoded_total"), 1.0);
}
