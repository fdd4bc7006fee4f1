//! Files of versions that read images otherwise: progress files and bundles without `pixels_version`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Bench, assert_exit, copy_folder, golden};

const ROW: &str = r#"{"prompt":"p","img_path":"china.jpg","responses":["a palace","It is a yellow circle, I think."]}"#;

fn edit(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_str(&bench.read(name)).unwrap();
    change(&mut json);
    fs::write(bench.path(name), json.to_string()).unwrap();
}

#[test]
fn a_run_of_a_version_that_reads_images_otherwise_does_not_resume() {
    let bench = Bench::new(ROW);
    assert_exit(&bench.run("out", &[]), 0, "2 responses");
    edit(&bench, "out.progress", |progress| {
        let options = progress["options"].as_object_mut().unwrap();
        assert_eq!(options.remove("pixels_version"), Some(json!(2)));
    });
    let problem = "cannot resume: the rows before were scored by a version that reads images otherwise: pixels_version was 1 \
                   and is 2 (--no-resume starts from scratch)";
    assert_exit(&bench.run("out", &[]), 2, problem);
    assert_exit(&bench.run("out", &["--no-resume"]), 0, "2 responses");
}

/// The result of `--check` for a bundle with one probe, whose first reward is `off` from what is served.
fn check(bench: &Bench, image: &str, off: f64, version: Option<u32>) -> (Output, String) {
    let bundle = bench.path("bundle");
    let _ = fs::remove_dir_all(&bundle);
    copy_folder(&golden("bundles/qwen2"), &bundle);
    fs::create_dir(bundle.join("probes")).unwrap();
    fs::copy(golden("images").join(image), bundle.join("probes/0")).unwrap();
    let row = ROW.replace("china.jpg", image);
    fs::write(bench.path("in.jsonl"), row).unwrap();
    assert_exit(&bench.run("out", &["--no-resume"]), 0, "2 responses");
    let lines = bench.json_lines("out");
    let [first, second] = [0, 1].map(|line: usize| lines[line]["score"].as_f64().unwrap());
    let responses: Vec<&Value> = lines.iter().map(|line| &line["response"]).collect();
    edit(bench, "bundle/reward_model.json", |manifest| {
        let mut probe = json!({
            "prompt": "p", "images": ["probes/0"], "responses": responses, "rewards": [first + off, second],
        });
        if let Some(version) = version {
            probe["pixels_version"] = version.into();
        }
        manifest["probes"] = json!([probe]);
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-score"));
    let output = command.arg("--check").arg("--model").arg(&bundle).output();
    let output = output.unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    (output, String::from_utf8(said).unwrap())
}

#[test]
fn jpeg_probes_of_older_bundles_have_a_tolerance_of_their_own() {
    let bench = Bench::new("");
    let notice = "the trainer was of a version that decoded JPEGs otherwise (pixels_version 2 is ours): allowed 0.05 for \
                  probes with a JPEG";
    for (image, off, version, code, is_said) in [
        ("china.jpg", 0.03, None, 0, true),
        ("china.jpg", 0.2, None, 1, true),
        ("china.jpg", 0.03, Some(2), 1, false),
        ("china.jpg", 0.0, Some(2), 0, false),
        ("vqa0.png", 0.03, None, 1, false),
    ] {
        let (output, said) = check(&bench, image, off, version);
        let case = format!("{image}, {off}, {version:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{case}");
        assert_eq!(said.contains(notice), is_said, "{case}");
        assert_eq!(said.contains("not as trained"), code == 1, "{case}");
    }
}

#[test]
fn a_bundle_of_a_newer_version_is_refused() {
    let bench = Bench::new(ROW);
    copy_folder(&golden("bundles/qwen2"), &bench.path("bundle"));
    edit(&bench, "bundle/reward_model.json", |manifest| {
        manifest["pixels_version"] = 99.into();
    });
    let run = bench.score_with(&bench.path("bundle"), "out").output();
    assert_exit(
        &run.unwrap(),
        2,
        "pixels_version: expected at most 2, got 99",
    );
}
