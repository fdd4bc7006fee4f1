//! Rows as people write them, through both programs: one question about one image, in every form, has one score.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Bench, assert_exit, golden};

const QUESTION: &str = "what colour is the largest shape?";
const CHOSEN: &str = "It is blue.";
const REJECTED: &str = "It is pink, I am sure.";
/// The rewards of the published implementation for the chosen response: with the image, with a second tag in the text,
/// without an image.
const WITH_IMAGE: f64 = 0.198_889;
const WITH_SECOND_TAG: f64 = 0.492_799;
const WITHOUT_IMAGE: f64 = 0.890_176;

#[track_caller]
fn assert_score(line: &Value, expected: f64) {
    let score = line["score"].as_f64().unwrap();
    assert!(
        (score - expected).abs() < 1e-5,
        "{line}: expected {expected}"
    );
}

fn scoring(key: &str, images: Value) -> String {
    let mut row = json!({"prompt": QUESTION, "responses": [CHOSEN]});
    row[key] = images;
    format!("{row}\n")
}

/// Scores rows next to which the image lies.
fn score(rows: &str) -> (Bench, Output) {
    let bench = Bench::new(rows);
    fs::copy(golden("images/shapes.png"), bench.path("a.png")).unwrap();
    let run = bench.score("out").output().unwrap();
    (bench, run)
}

#[test]
fn an_image_has_many_forms_and_one_score() {
    let bytes = fs::read(golden("images/shapes.png")).unwrap();
    let base64 = STANDARD.encode(&bytes);
    let turn = json!([{"role": "user", "content": format!("<image>{QUESTION}")}]);
    let part = json!([{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": QUESTION}]}]);
    let url = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": QUESTION}]}]);
    let rows = [
        scoring("img_path", json!("a.png")),
        scoring("images", json!(["a.png"])),
        scoring("image", json!("a.png")),
        scoring("img_path", json!({"path": "a.png"})),
        scoring("img_path", json!("file://a.png")),
        scoring("images", json!([format!("data:image/png;base64,{base64}")])),
        scoring("image", json!({"bytes": base64, "path": null})),
        scoring("images", json!([{"bytes": bytes, "path": null}])),
        format!(
            "{}\n",
            json!({"messages": turn, "images": ["a.png"], "responses": [CHOSEN]})
        ),
        format!("{}\n", json!({"prompt": part, "responses": [CHOSEN]})),
        format!("{}\n", json!({"messages": url, "responses": [CHOSEN]})),
    ];
    let (bench, run) = score(&rows.concat());
    assert_exit(&run, 0, "11 responses");
    let lines = bench.json_lines("out");
    lines.iter().for_each(|line| assert_score(line, WITH_IMAGE));
    assert_eq!(lines[6]["image"]["bytes"], base64);
}

#[test]
fn what_is_no_image_here_is_refused_or_absent() {
    let rows = [
        scoring("img_path", json!("https://example.com/a.png")),
        scoring("img_path", json!("a%20b.png")),
        scoring("image_path", json!("a.png")),
        scoring("videos", json!(["a.mp4"])),
        scoring("img_path", json!("")),
        scoring("images", Value::Null),
        scoring("image", json!(7)),
    ];
    let (bench, run) = score(&rows.concat());
    assert_exit(&run, 1, "4 rows failed");
    let errors = bench.errors("out");
    for ((line, message), expected) in errors.iter().zip([
        "img_path: expected a file, got an address (https://…): images are not downloaded; save it and give its path",
        "image ",
        "image_path: not read in scoring rows: their images are under img_path, images or image",
        "videos: videos are not supported",
    ]) {
        assert!(message.starts_with(expected), "{line}: {message}");
    }
    let lines = bench.json_lines("out");
    lines
        .iter()
        .for_each(|line| assert_score(line, WITHOUT_IMAGE));
}

/// As in the published code; the notice says that messages differ.
#[test]
fn a_tag_stays_in_the_prompt_of_one_image() {
    let row = json!({"prompt": format!("<image>\n{QUESTION}"), "img_path": "a.png", "responses": [CHOSEN]});
    let (bench, run) = score(&format!("{row}\n{row}\n"));
    assert_exit(
        &run,
        0,
        "notice: a prompt with one image has an <image> tag",
    );
    let notices = String::from_utf8_lossy(&run.stderr)
        .matches("notice: ")
        .count();
    assert_eq!(notices, 1);
    bench
        .json_lines("out")
        .iter()
        .for_each(|line| assert_score(line, WITH_SECOND_TAG));
}

#[test]
fn numbers_of_python_are_carried() {
    let row = |number: &str| {
        scoring("img_path", json!("a.png")).replace("}\n", &format!(",\"w\":{number}}}\n"))
    };
    let (bench, run) = score(&[row("NaN"), row("[-Infinity]")].concat());
    assert_exit(&run, 0, "2 responses");
    let text = bench.read("out");
    let ends: Vec<_> = text
        .lines()
        .map(|line| line.split("\"w\":").nth(1))
        .collect();
    assert_eq!(ends, [Some("NaN}"), Some("[-Infinity]}")]);
}

/// The first line of `seeward-evaluate`'s scores: that of the chosen response.
fn evaluated(rows: &str) -> (Value, Output) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("images/shapes.png"), folder.path().join("a.png")).unwrap();
    fs::write(folder.path().join("in.jsonl"), rows).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_seeward-evaluate"))
        .arg("--model")
        .arg(golden("bundles/qwen2"))
        .arg("--data")
        .arg(format!("set={}", folder.path().join("in.jsonl").display()))
        .arg("--output")
        .arg(folder.path().join("report"))
        .output()
        .unwrap();
    let scores = fs::read_to_string(folder.path().join("report/scores/model.set.jsonl"));
    let line = scores
        .ok()
        .and_then(|scores| Some(serde_json::from_str(scores.lines().next()?).unwrap()));
    (line.unwrap_or_default(), run)
}

#[test]
fn a_pair_has_one_score_in_every_format() {
    let user = |text: &str| json!({"role": "user", "content": text});
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let tagged = format!("<image>{QUESTION}");
    let part = json!({"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": QUESTION}]});
    let image = json!({"path": "a.png", "bytes": null});
    for row in [
        json!({"prompt": QUESTION, "img_path": "a.png", "chosen": CHOSEN, "rejected": REJECTED}),
        json!({"prompt": QUESTION, "images": [image], "chosen": CHOSEN, "rejected": REJECTED}),
        json!({"question": QUESTION, "image": "a.png", "chosen": CHOSEN, "rejected": REJECTED}),
        json!({"prompt": [part], "chosen": [answer(CHOSEN)], "rejected": [answer(REJECTED)]}),
        json!({"messages": [user(&tagged), answer(CHOSEN)], "rejected_response": REJECTED, "images": ["a.png"], "margin": 5.0}),
        json!({"conversations": [{"from": "human", "value": tagged}], "chosen": {"from": "gpt", "value": CHOSEN}, "rejected": {"from": "gpt", "value": REJECTED}, "images": ["a.png"]}),
        json!({"prompt": QUESTION, "image": "a.png", "responses": [CHOSEN, REJECTED], "ratings": ["4", "2"]}),
        json!({"instruction": QUESTION, "input": "", "images": ["a.png"], "chosen": CHOSEN, "rejected": REJECTED}),
        json!({"input": {"messages": [part]}, "preferred_output": [answer(CHOSEN)], "non_preferred_output": [answer(REJECTED)]}),
    ] {
        let (line, run) = evaluated(&format!("{row}\n"));
        assert_eq!(
            run.status.code(),
            Some(0),
            "{row}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        assert_score(&line, WITH_IMAGE);
    }
}

#[test]
fn rows_without_an_image_may_stand_among_others() {
    let row = |images: Value| json!({"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED, "images": images});
    let internvl = |image: &str| json!({"question": QUESTION, "chosen": CHOSEN, "rejected": REJECTED, "image": image});
    for (first, second) in [
        (row(Value::Null), row(json!(["a.png"]))),
        (row(json!(["a.png"])), row(Value::Null)),
        (internvl(""), internvl("a.png")),
    ] {
        let (line, run) = evaluated(&format!("{first}\n{second}\n"));
        assert_eq!(
            run.status.code(),
            Some(0),
            "{first}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        let is_text = first["images"].is_null() && first["image"] != "a.png";
        assert_score(&line, if is_text { WITHOUT_IMAGE } else { WITH_IMAGE });
    }
}

#[test]
fn videos_are_row_errors() {
    for tag in ["", "<video>"] {
        let row = json!({"messages": [{"role": "user", "content": format!("{tag}{QUESTION}")}, {"role": "assistant", "content": CHOSEN}], "rejected_response": REJECTED, "videos": ["a.mp4"]});
        let (_, run) = evaluated(&format!("{row}\n"));
        assert_ne!(run.status.code(), Some(0));
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(
            stderr.contains("videos: videos are not supported"),
            "{stderr}"
        );
    }
}

/// Scores of `bench`'s rows, in order.
fn scores(bench: &Bench) -> Vec<f64> {
    let lines = bench.json_lines("out");
    let score = |line: &Value| line["score"].as_f64().unwrap();
    lines.iter().map(score).collect()
}

#[test]
fn images_that_others_decode_otherwise_score_as_pillows_pixels() {
    let names = [
        "single_scans.jpg",
        "luma_coarser.jpg",
        "three_to_one.jpg",
        "bmp_555.bmp",
    ];
    let row = |image: &str| {
        let row = json!({"prompt": QUESTION, "img_path": image, "responses": [CHOSEN, REJECTED]});
        format!("{row}\n")
    };
    let pixels = |name: &str| format!("{}.png", name.split('.').next().unwrap());
    let rows: String = names
        .iter()
        .map(|name| row(name) + &row(&pixels(name)))
        .collect();
    let bench = Bench::new(rows + &row("hole.jpg") + &row("cut_with_end.jpg"));
    let mut command = bench.score("out");
    command.arg("--image-root").arg(golden("decoded"));
    assert_exit(&command.output().unwrap(), 1, "2 rows failed");
    let (scores, mut seen) = (scores(&bench), Vec::new());
    for (name, scores) in names.iter().zip(scores.chunks(4)) {
        let [a, b, of_pixels @ ..] = scores else {
            panic!("{name}: {scores:?}");
        };
        assert_eq!([*a, *b], of_pixels, "{name}");
        seen.push(a.to_bits());
    }
    seen.dedup();
    assert_eq!(seen.len(), names.len(), "the images do not matter");
    for (line, message) in bench.errors("out") {
        assert!(
            message.contains("the JPEG has lost blocks"),
            "{line}: {message}"
        );
    }
}

#[test]
fn paths_of_images_are_taken_literally() {
    let rows = [
        scoring("img_path", json!("file://a b.png")),
        scoring("img_path", json!({"path": "a b.png"})),
        scoring("img_path", json!("~/a b.png")),
        scoring("img_path", json!("a%20b.png")),
        scoring("img_path", json!({"bytes": "iVBORw0KGgo=", "path": null})),
    ];
    let bench = Bench::new(rows.concat());
    fs::copy(golden("images/shapes.png"), bench.path("a b.png")).unwrap();
    assert_exit(&bench.score("out").output().unwrap(), 1, "3 rows failed");
    let lines = bench.json_lines("out");
    assert_eq!(lines.len(), 2);
    lines.iter().for_each(|line| assert_score(line, WITH_IMAGE));
    let messages: Vec<_> = bench.errors("out").into_iter().map(|(_, m)| m).collect();
    assert!(messages[0].contains("~/a b.png"), "{messages:?}");
    assert!(messages[1].contains("a%20b.png"), "{messages:?}");
    assert!(messages[2].starts_with("image 1: "), "{messages:?}");
}

#[test]
fn pairs_whose_images_are_under_another_key_are_row_errors() {
    let pair = |key: &str| {
        let mut row = json!({"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED});
        row[key] = json!("a.png");
        format!("{row}\n")
    };
    let (_, run) = evaluated(&pair("image_path"));
    assert_ne!(run.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&run.stderr);
    let problem = "image_path: not read in rows of format pairwise";
    assert!(stderr.contains(problem), "{stderr}");
    let (line, run) = evaluated(&pair("img_path"));
    assert_eq!(run.status.code(), Some(0));
    assert_score(&line, WITH_IMAGE);
}
