//! `seeward-evaluate` on the command line: sets in, table and report out, exit codes.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::golden;
use tempfile::TempDir;

fn pair(chosen: &str, rejected: &str) -> Value {
    json!({"prompt": "what color is the shape?", "img_path": "vqa0.png", "chosen": chosen, "rejected": rejected})
}

/// Evaluates sets of rows with the golden bundle, which is its own text-only model, and writes a report.
fn evaluate(sets: &[(&str, &[Value])]) -> (TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let output = evaluate_in(&folder, sets, &[]);
    (folder, output)
}

fn evaluate_in(folder: &TempDir, sets: &[(&str, &[Value])], arguments: &[&str]) -> Output {
    command(folder, sets).args(arguments).output().unwrap()
}

fn command(folder: &TempDir, sets: &[(&str, &[Value])]) -> Command {
    let bundle = golden("bundles/qwen2");
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-evaluate"));
    command
        .arg("--model")
        .arg(&bundle)
        .arg("--text-only-model")
        .arg(&bundle);
    command.arg("--image-root").arg(golden("images"));
    command.arg("--output").arg(folder.path().join("report"));
    for (name, rows) in sets {
        let path = folder.path().join(format!("{name}.jsonl"));
        let lines = rows
            .iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>();
        fs::write(&path, lines).unwrap();
        command
            .arg("--data")
            .arg(format!("{name}={}", path.display()));
    }
    command
}

fn report(folder: &TempDir) -> Value {
    let text = fs::read_to_string(folder.path().join("report/report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn swapping_every_pair_mirrors_the_accuracy() {
    let texts = [
        "It is blue.",
        "It is a yellow circle, I think.",
        "Red!",
        "I can not tell.",
    ];
    let pairs = texts
        .windows(2)
        .map(|two| pair(two[0], two[1]))
        .collect::<Vec<_>>();
    let swapped = texts
        .windows(2)
        .map(|two| pair(two[1], two[0]))
        .collect::<Vec<_>>();
    let chosen = texts.windows(2).map(|two| {
        json!({"prompt": "what color is the shape?", "img_path": "vqa0.png", "responses": [two[1], two[0]],
               "chosen_index": 1})
    });
    let chosen = chosen.collect::<Vec<_>>();
    let (folder, output) = evaluate(&[
        ("pairs", &pairs),
        ("swapped", &swapped),
        ("chosen", &chosen),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report = report(&folder);
    let accuracy = |set: &str| report["sets"][set]["accuracy"].as_f64().unwrap();
    assert!(
        (accuracy("pairs") + accuracy("swapped") - 1.0).abs() < 1e-12,
        "{report}"
    );
    for number in ["pairs", "ties", "accuracy", "interval"] {
        assert_eq!(
            report["sets"]["pairs"][number],
            report["sets"]["chosen"][number]
        );
    }
    assert_eq!(report["overall"]["model"]["pairs"], json!(9));
    assert_eq!(report["overall"]["length_only"]["pairs"], json!(9));
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn equal_responses_are_a_tie() {
    let (folder, output) = evaluate(&[("ties", &[pair("It is blue.", "It is blue.")])]);
    assert_eq!(output.status.code(), Some(0));
    let set = &report(&folder)["sets"]["ties"];
    assert_eq!((&set["ties"], &set["accuracy"]), (&json!(1), &json!(0.5)));
}

#[test]
fn bad_rows_are_reported_and_skipped() {
    let mut missing = pair("a", "b");
    missing["img_path"] = json!("no_such.png");
    let rows = [pair("It is blue.", "Red!"), missing, json!({"prompt": "p"})];
    let (folder, output) = evaluate(&[("bad", &rows)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("bad.jsonl:2: ") && stderr.contains("no_such.png"),
        "{stderr}"
    );
    assert!(stderr.contains("bad.jsonl:3: "), "{stderr}");
    let set = &report(&folder)["sets"]["bad"];
    assert_eq!(
        (&set["rows"], &set["failed_rows"], &set["pairs"]),
        (&json!(3), &json!(2), &json!(1))
    );
}

#[test]
fn a_missing_file_or_bundle_is_an_error() {
    let run = |model: &str, data: &str| {
        let data = format!("x={}", golden(data).display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-evaluate"));
        let output = command
            .args(["--model", model, "--data", &data])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, stderr) = run("no/such/bundle", "train/pairwise.jsonl");
    assert!(
        code == Some(2) && stderr.contains("no/such/bundle"),
        "{stderr}"
    );
    let (code, stderr) = run(golden("bundles/qwen2").to_str().unwrap(), "no_such.jsonl");
    assert!(
        code == Some(2) && stderr.contains("no_such.jsonl"),
        "{stderr}"
    );
}

#[test]
fn rows_of_a_benchmark_are_reported_by_area() {
    let row = |id: &str, first: &str, second: &str| {
        json!({"id": id, "query": "<image>\nwhat color is the shape?", "image_path": "vqa0.png",
               "response": [first, second], "human_ranking": [1, 0]})
    };
    let rows = [
        row("RLHF-V-1", "It is blue.", "Red!"),
        row("mathverse_1", "Red!", "It is blue."),
        row("mmmu_1", "Red!", "I can not tell."),
    ];
    let (folder, output) = evaluate(&[("vl", &rows)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("vl-rewardbench draws on the sources of VLFeedback"),
        "{stderr}"
    );
    let set = &report(&folder)["sets"]["vl"];
    assert_eq!(set["format"], json!("vl-rewardbench"));
    let areas = set["groups"]["areas"].as_array().unwrap();
    let names: Vec<_> = areas
        .iter()
        .map(|area| (&area["name"], &area["pairs"]))
        .collect();
    assert_eq!(
        names,
        [
            (&json!("hallucination"), &json!(1)),
            (&json!("reasoning"), &json!(2))
        ]
    );
}

#[test]
fn a_mixed_file_is_reported_by_line_unless_its_format_is_named() {
    let other =
        json!({"question": "q", "image": "vqa0.png", "chosen": "Red!", "rejected": "Blue!"});
    let rows = [pair("It is blue.", "Red!"), other];
    let (_folder, output) = evaluate(&[("mixed", &rows)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let expected =
        "mixed.jsonl:2: expected a row of format pairwise, as the file's first, got internvl";
    assert!(stderr.contains(expected), "{stderr}");
    let folder = tempfile::tempdir().unwrap();
    let output = evaluate_in(&folder, &[("mixed", &rows)], &["--format", "internvl"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("mixed.jsonl:1: question: expected a string, got nothing"),
        "{stderr}"
    );
}

/// A pair's image changes the reward of the model, and not that of the text-only model.
#[test]
fn a_text_only_model_sees_no_image() {
    let with = |image: &str| {
        let mut pair = pair("It is blue.", "It is a yellow circle, I think.");
        pair["img_path"] = json!(image);
        pair
    };
    let [first, second] = [[with("vqa0.png")], [with("vqa1.png")]];
    let (folder, output) = evaluate(&[("first", &first), ("second", &second)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report = report(&folder);
    let [first, second] = ["first", "second"].map(|set| &report["sets"][set]);
    assert_eq!(
        first["text_only"]["margins"]["mean"],
        second["text_only"]["margins"]["mean"]
    );
    assert_ne!(first["margins"]["mean"], second["margins"]["mean"]);
    assert_ne!(
        first["margins"]["mean"],
        first["text_only"]["margins"]["mean"]
    );
}

/// A second run of the same evaluation reuses the scores, and refuses them if the set has changed.
#[test]
fn an_evaluation_resumes_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..40)
        .map(|i| pair(&format!("It is number {i}."), "Red!"))
        .collect();
    let first = evaluate_in(&folder, &[("set", &rows)], &[]);
    assert_eq!(first.status.code(), Some(0));
    let before = report(&folder);
    // As if it had been interrupted after the first model.
    let scores = folder.path().join("report/scores");
    for name in [
        "text_only.set.jsonl",
        "text_only.set.jsonl.progress",
        "text_only.set.jsonl.errors",
    ] {
        fs::remove_file(scores.join(name)).unwrap();
    }
    let again = evaluate_in(&folder, &[("set", &rows)], &[]);
    let stderr = String::from_utf8_lossy(&again.stderr);
    assert!(stderr.contains("model on set: 0 rows"), "{stderr}");
    assert!(stderr.contains("text_only on set: 40 rows"), "{stderr}");
    assert_eq!((report(&folder), again.stdout), (before, first.stdout));
    let changed = evaluate_in(&folder, &[("set", &rows[1..])], &[]);
    let stderr = String::from_utf8_lossy(&changed.stderr);
    assert!(
        changed.status.code() == Some(2) && stderr.contains("--no-resume starts from scratch"),
        "{stderr}"
    );
    let again = evaluate_in(&folder, &[("set", &rows[1..])], &["--no-resume"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(report(&folder)["sets"]["set"]["pairs"], json!(39));
}

#[test]
fn the_page_is_self_contained() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let lines = [
        json!({"step": 0, "loss": 0.7, "accuracy": 0.5, "sfc_mean": 0.5, "sfc_p10": 0.4, "sfc_p90": 0.6}),
        json!({"step": 10, "loss": 0.3, "accuracy": 0.9, "sfc_mean": 0.8, "sfc_p10": 0.5, "sfc_p90": 1.0}),
        json!({"step": 10, "eval": {"dev": {"accuracy": 0.8}}}),
    ];
    fs::write(&metrics, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let texts = [
        "It is blue.",
        "Red!",
        "It is <b>red</b> & round.",
        "I can not tell.",
    ];
    let rated = json!({"prompt": "what color is the shape?", "img_path": "vqa0.png", "responses": texts,
                       "ratings": [1, 2, 5, 3]});
    let bundle = golden("bundles/qwen2");
    let arguments = [
        "--metrics",
        metrics.to_str().unwrap(),
        "--compare",
        bundle.to_str().unwrap(),
    ];
    let output = evaluate_in(&folder, &[("rated", &[rated])], &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");

    let report = report(&folder);
    let set = &report["sets"]["rated"];
    assert_eq!(set["best_of_n"]["points"].as_array().unwrap().len(), 4);
    assert_eq!(set["best_of_n"]["points"][0]["random"], json!(2.75));
    assert_eq!(
        (
            &set["agreement"]["agreement"],
            &set["agreement"]["largest_distance"]
        ),
        (&json!(1.0), &json!(0.0))
    );
    assert_eq!(report["disagreements"].as_array().unwrap().len(), 6);
    assert_eq!(
        report["training"]["curves"]["eval.dev.accuracy"],
        json!([[10.0, 0.8]])
    );

    let page = fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    for title in [
        "Accuracy",
        "Does it look?",
        "How sure it is",
        "Best of N",
        "Training",
        "disagree most",
    ] {
        assert!(page.contains(title), "no {title}");
    }
    assert_eq!(page.matches("<polygon class=\"band").count(), 1);
    assert!(page.contains("It is &lt;b&gt;red&lt;/b&gt; &amp; round."));
    assert_eq!(
        page.matches("src=\"").count(),
        page.matches("src=\"data:image/jpeg;base64,").count()
    );
    for outside in ["http:", "https:", "url(", "<script", "<link"] {
        assert!(!page.contains(outside), "the page loads {outside}");
    }
}

#[test]
fn an_interrupted_evaluation_resumes_to_the_same_report() {
    let rows: Vec<_> = (0..600)
        .map(|i| pair(&format!("It is number {i}."), "Red!"))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(&folder, &[("set", &rows)]);
    let run = run.args(["--threads", "1"]).stdout(Stdio::null());
    let run = run.stderr(Stdio::piped()).spawn().unwrap();
    let progress = folder.path().join("report/scores/model.set.jsonl.progress");
    let started = Instant::now();
    while !fs::read_to_string(&progress).is_ok_and(|text| !text.contains("\"lines\": 0")) {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no window is done"
        );
    }
    let id = run.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let stopped = run.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(130), "{stderr}");
    assert!(
        stderr.contains("rerun the same command to resume"),
        "{stderr}"
    );
    assert!(!folder.path().join("report/report.json").exists());
    let on = evaluate_in(&folder, &[("set", &rows)], &["--threads", "1"]);
    let whole = tempfile::tempdir().unwrap();
    let at_once = evaluate_in(&whole, &[("set", &rows)], &["--threads", "1"]);
    assert_eq!(
        (on.status.code(), at_once.status.code()),
        (Some(0), Some(0))
    );
    assert_eq!(report(&folder), report(&whole));
}
