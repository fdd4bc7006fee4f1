//! `seeward-score` on the command line: rows in, rows out, errors, resume, exit codes.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::{Bench, assert_exit, copy_folder, golden, rows};

#[test]
fn rows_keep_their_order_and_bad_ones_are_reported() {
    let bench = Bench::new(concat!(
        "{\"n\":1.50,\"prompt\":\"p\",\"img_path\":\"vqa0.png\",\"responses\":[\"a\",\"b\"]}\n",
        "\n",
        "{\"prompt\":\"p\",\"img_path\":\"none.png\",\"responses\":[\"a\"]}\n",
        "{\"prompt\":\"p\",\"img_path\":\"../images/vqa0.png\",\"responses\":[\"a\"]}\n",
        "{\"prompt\":\"p\",\"responses\":[]}\n",
        "{\"prompt\":\"p\",\"responses\":[\"c\"],\"score\":1}\n",
        "{\"prompt\":\"p\",\"responses\":[\"c\"]}",
    ));
    let stats = bench.path("stats.json");
    let run = bench.run("out", &["--stats", stats.to_str().unwrap()]);
    assert_exit(&run, 1, "4 rows failed");
    let lines = bench.json_lines("out");
    let responses: Vec<_> = lines.iter().map(|line| line["response"].as_str()).collect();
    assert_eq!(responses, [Some("a"), Some("b"), Some("c")]);
    assert!(
        bench
            .read("out")
            .lines()
            .next()
            .unwrap()
            .ends_with(",\"n\":1.50}")
    );
    let errors = bench.errors("out");
    let numbers: Vec<_> = errors.iter().map(|(line, _)| *line).collect();
    assert_eq!(numbers, [3, 4, 5, 6]);
    let stats: Value = serde_json::from_str(&bench.read("stats.json")).unwrap();
    let count = |key: &str| stats[key].as_u64().unwrap();
    assert_eq!(
        (count("rows"), count("responses"), count("errors")),
        (6, 3, 4)
    );
}

/// A conversation scores as it is trained, whichever keys hold it.
#[test]
fn conversations_are_scored_at_their_last_answer() {
    let turns = r#"{"role":"user","content":"<image>\np"},{"role":"assistant","content":"a"},{"role":"user","content":"q"}"#;
    let rows = [
        format!(r#"{{"messages":[{turns}],"images":["vqa0.png"],"responses":["b","c"]}}"#),
        format!(r#"{{"messages":[{turns},{{"role":"assistant","content":"c"}}],"img_path":"vqa0.png"}}"#),
        r#"{"conversations":[{"from":"human","value":"p"},{"from":"gpt","value":"a"}],"image":"vqa0.png"}"#.to_owned(),
        r#"{"prompt":"p","img_path":"vqa0.png","responses":["a"]}"#.to_owned(),
        format!(r#"{{"messages":[{turns}],"responses":["b"]}}"#),
    ];
    let bench = Bench::new(rows.join("\n"));
    let run = bench.run("out", &[]);
    assert_exit(&run, 1, "1 rows failed");
    let scores: Vec<_> = bench
        .json_lines("out")
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    let close = |a: usize, b: usize| assert!((scores[a] - scores[b]).abs() < 1e-5, "{scores:?}");
    close(1, 2);
    close(3, 4);
    let problem = "messages: expected one <image> in the prompt for each image, or none at all: got 1 for 0 images";
    assert_eq!(bench.errors("out"), [(5, problem.to_owned())]);
}

#[test]
fn stats_have_the_counts_and_rates_of_a_run() {
    let bench = Bench::new(concat!(
        "{\"prompt\":\"p\",\"img_path\":\"wide.png\",\"responses\":[\"a\",\"b\"]}\n",
        "{\"prompt\":\"p\",\"img_path\":\"wide.png\",\"responses\":[\"c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c \"]}\n",
        "no row\n",
    ));
    let model = bench.path("bundle");
    copy_folder(&golden("bundles/qwen2"), &model);
    let mut manifest: Value =
        serde_json::from_str(&bench.read("bundle/reward_model.json")).unwrap();
    manifest["prompt"]["max_length"] = 160.into();
    fs::write(model.join("reward_model.json"), manifest.to_string()).unwrap();
    let mut command = bench.score_with(&model, "out");
    command.arg("--image-root").arg(golden("images"));
    let run = command
        .arg("--stats")
        .arg(bench.path("stats.json"))
        .output();
    assert_exit(&run.unwrap(), 1, "3 rows, 3 responses in");
    let stats: Value = serde_json::from_str(&bench.read("stats.json")).unwrap();
    let keys: Vec<&String> = stats.as_object().unwrap().keys().collect();
    let expected = "rows responses seconds responses_per_second tokens tokens_without_sharing images_encoded tiles \
                    truncated errors engine_busy peak_rss_bytes device provider precision bundle";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    let count = |key: &str| stats[key].as_u64().unwrap();
    assert_eq!(["rows", "responses", "errors"].map(count), [3, 3, 1]);
    // The image is used twice and encoded once, as a grid with its thumbnail.
    assert_eq!(count("images_encoded"), 1);
    assert!(count("tiles") > 2, "{stats}");
    assert!(count("tokens") < count("tokens_without_sharing"), "{stats}");
    let cut = |line: &&Value| line["truncated"] == true;
    assert_eq!(bench.json_lines("out").iter().filter(cut).count(), 1);
    assert_eq!(count("truncated"), 1);
    let number = |key: &str| stats[key].as_f64().unwrap();
    let rate = number("responses") / number("seconds");
    assert!((number("responses_per_second") / rate - 1.0).abs() < 1e-9);
    assert!((0.0..1.0).contains(&number("engine_busy")) && number("engine_busy") > 0.0);
    // The engine's library alone takes more than ten megabytes; the tiny model fits into a gigabyte.
    assert!((10e6..1e9).contains(&number("peak_rss_bytes")), "{stats}");
    assert_eq!(
        (&stats["device"], &stats["provider"]),
        (&"cpu".into(), &"CPUExecutionProvider".into())
    );
    assert_eq!(stats["precision"], "fp32");
    let progress: Value = serde_json::from_str(&bench.read("out.progress")).unwrap();
    assert_eq!(stats["bundle"], progress["bundle"]);
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bytes() {
    // Windows are 32 rows and a tenth of these lines is blank, so that the first 71 are two windows.
    let (whole, part) = (rows(150), rows(71));
    let bench = Bench::new(&whole);
    assert_exit(&bench.run("whole", &[]), 1, "15 rows failed");
    fs::write(bench.path("in.jsonl"), &part).unwrap();
    assert_eq!(bench.run("cut", &[]).status.code(), Some(1));
    assert!(bench.read("cut").len() < bench.read("whole").len());
    for file in ["cut", "cut.errors"] {
        fs::write(bench.path(file), bench.read(file) + "{\"half a li").unwrap();
    }
    fs::write(bench.path("in.jsonl"), &whole).unwrap();
    assert_exit(&bench.run("cut", &["--threads", "1"]), 1, "15 rows failed");
    bench.assert_same("cut", "whole");
    assert_exit(&bench.run("cut", &[]), 1, "0 rows, 0 responses");
}

#[test]
fn a_run_that_cannot_resume_is_refused() {
    let bench = Bench::new(rows(3));
    assert_exit(&bench.run("out", &[]), 0, "");
    let before = bench.read("out");
    assert_exit(&bench.run("out", &["--text-only"]), 2, "input_mode was");
    assert_exit(
        &bench.run("out", &["--batch-tokens", "9"]),
        2,
        "batch_tokens was",
    );
    fs::write(bench.path("in.jsonl"), "x").unwrap();
    assert_exit(&bench.run("out", &[]), 2, "the input has changed");
    assert_eq!(bench.read("out"), before);
    fs::write(bench.path("in.jsonl"), rows(2)).unwrap();
    assert_exit(
        &bench.run("out", &["--no-resume", "--text-only"]),
        0,
        "4 responses",
    );
    assert_eq!(bench.json_lines("out").len(), 4);
}

#[test]
fn a_run_that_cannot_start_writes_nothing() {
    let bench = Bench::new(rows(3));
    for (arguments, message) in [
        (["--device", "cuda:1000"], "device cuda:1000: "),
        (["--device", "gpu"], "expected cpu, cuda[:N]"),
        (["--threads", "0"], "threads: expected at least 1"),
        (["--device", "tensorrt:0"], "device tensorrt:0: "),
        (
            ["--gpu-memory-limit", "4096"],
            "gpu_memory_limit: expected a GPU as the device",
        ),
        (["--text-only", "--image-only"], "cannot be used with"),
    ] {
        assert_exit(&bench.run("out", &arguments), 2, message);
    }
    assert_eq!(bench.files(), ["in.jsonl"]);
}

#[test]
fn a_bundle_without_probes_says_so() {
    let check = Command::new(env!("CARGO_BIN_EXE_seeward-score"))
        .args([
            "--check",
            "--model",
            golden("bundles/qwen2").to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert_exit(&check, 2, "no probes");
}

#[test]
fn several_devices_write_the_bytes_of_one_and_resume_its_run() {
    let bench = Bench::new(rows(330));
    let stats = bench.path("stats.json");
    let stats = stats.to_str().unwrap();
    assert_exit(&bench.run("one", &["--threads", "1"]), 1, "33 rows failed");
    let two = ["--threads", "1", "--device", "cpu,cpu", "--stats", stats];
    assert_exit(&bench.run("two", &two), 1, "33 rows failed");
    bench.assert_same("two", "one");
    let stats: Value = serde_json::from_str(&bench.read("stats.json")).unwrap();
    assert_eq!(stats["device"], "cpu,cpu");
    let busy = stats["engine_busy"].as_f64().unwrap();
    assert!(busy > 0.0 && busy <= 1.0, "{busy}");
    // The number of devices is not a part of the identity of a run.
    let again = bench.run("one", &["--device", "cpu,cpu"]);
    assert_exit(&again, 1, "0 rows, 0 responses");
}
