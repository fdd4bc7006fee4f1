//! Bundles of lossy precisions: how far their rewards are off is said, kept and judged by the rewards' spread, and a common
//! error is corrected when asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use seeward_fixture::checkpoint::RandomCheckpoint;
use seeward_models::bundle::{Bundle, MANIFEST_FILE};
use seeward_models::checkpoint::Dtype;
use seeward_models::config::Config;
use seeward_models::probe::{self, Probe, RECORD_FILE};
use seeward_tests::golden;
use seeward_tests::program::program;
use serde_json::{Value, json};

use crate::{check, succeed};

/// A checkpoint with dominant channels, its bundles in int8 and fp32, and rows that both score.
struct Lossy {
    folder: tempfile::TempDir,
}

impl Lossy {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = golden::path("models/qwen2");
        let checkpoint = RandomCheckpoint {
            config: Config::open(&source).expect("a config"),
            seed: 0,
            dtype: Dtype::F32,
            score_head: true,
            text_only_branch: false,
            outliers: true,
        };
        let path = folder.path().join("checkpoint");
        checkpoint.write(&path, Some(&source)).expect("written");
        fs::create_dir(path.join("probes")).expect("a folder");
        let image = golden::path("images/vqa0.png");
        fs::copy(image, path.join("probes/0.png")).expect("copied");
        let lossy = Self { folder };
        lossy.write_rows();
        lossy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rows() -> impl Iterator<Item = (String, [String; 2])> {
        let row = |n: usize| {
            let responses = [format!("It is {n}, I think."), "no".repeat(n)];
            (format!("how many shapes are in image {n}?"), responses)
        };
        (1..7).map(row)
    }

    fn write_rows(&self) {
        let row = |(prompt, responses): (String, [String; 2])| {
            json!({"prompt": prompt, "img_path": "probes/0.png", "responses": responses})
                .to_string()
                + "\n"
        };
        let rows: String = Self::rows().map(row).collect();
        fs::write(self.path("checkpoint/rows.jsonl"), rows).expect("written");
    }

    /// Exports the checkpoint in int8 with these rewards of its rows as probes, none without any.
    fn int8(&self, rewards: &[f32]) -> PathBuf {
        self.export("int8", rewards, &["--target", "cpu", "--quantize", "int8"])
            .0
    }

    fn export(&self, name: &str, rewards: &[f32], more: &[&str]) -> (PathBuf, String) {
        let probe = |((prompt, responses), rewards): ((String, [String; 2]), &[f32])| Probe {
            prompt: prompt.into(),
            pixels_version: seeward_models::image::PIXELS_VERSION,
            images: vec!["probes/0.png".to_owned()],
            responses: Vec::from(responses),
            rewards: rewards.to_vec(),
            text_only_rewards: None,
        };
        let probes: Vec<Probe> = Self::rows().zip(rewards.chunks(2)).map(probe).collect();
        probe::write(&self.path("checkpoint"), &probes).expect("written");
        let (mut export, output) = (program("seeward-export"), self.path(name));
        export.arg("--checkpoint").arg(self.path("checkpoint"));
        let done = export.arg("--output").arg(&output).args(more).output();
        let done = done.expect("runs");
        succeed(&done);
        (output, said(&done))
    }

    fn score(&self, bundle: &Path, more: &[&str]) -> Output {
        let mut score = program("seeward-score");
        score.arg("--model").arg(bundle);
        score.arg("--input").arg(self.path("checkpoint/rows.jsonl"));
        score.args(more).output().expect("runs")
    }

    /// The scores of the rows, and the program's notices.
    fn scores(&self, bundle: &Path) -> (Vec<f32>, String) {
        let scored = self.score(bundle, &["--output", "-"]);
        succeed(&scored);
        let lines = String::from_utf8(scored.stdout.clone()).expect("text");
        let score =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["score"].clone();
        let scores = lines
            .lines()
            .map(|line| score(line).as_f64().expect("a score") as f32);
        (scores.collect(), said(&scored))
    }

    /// What an evaluation of one pair says.
    fn evaluate(&self, bundle: &Path) -> String {
        let pair =
            json!({"prompt": "p", "img_path": "probes/0.png", "chosen": "a", "rejected": "b"});
        let path = self.path("checkpoint/pairs.jsonl");
        fs::write(&path, pair.to_string()).expect("written");
        let mut evaluate = program("seeward-evaluate");
        evaluate.arg("--model").arg(bundle);
        let data = format!("--data=pairs={}", path.display());
        let done = evaluate.arg(data).output().expect("runs");
        succeed(&done);
        said(&done)
    }

    /// The rewards of the rows in fp32.
    fn fp32(&self) -> Vec<f32> {
        let (bundle, said) = self.export("fp32", &[], &[]);
        assert!(!said.contains("costs accuracy"), "{said}");
        self.scores(&bundle).0
    }

    fn correct(&self, bundle: &Path, more: &[&str]) -> (Option<i32>, String) {
        let mut correct = program("seeward-score");
        correct.args(["--correct-mean", "--model"]).arg(bundle);
        let output = correct.args(more).output().expect("runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), printed + &said(&output))
    }
}

/// What the program said on stderr.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Root mean square of the errors as a share of the deviation of the expected rewards.
fn share(got: &[f32], expected: &[f32]) -> f64 {
    let centre = mean(expected.iter().map(|&reward| reward.into()));
    let square = |value: f64| value * value;
    let variance = mean(
        expected
            .iter()
            .map(|&reward| square(f64::from(reward) - centre)),
    );
    let errors = got.iter().zip(expected);
    (mean(errors.map(|(got, expected)| square(f64::from(got - expected)))) / variance).sqrt()
}

#[test]
fn a_lossy_bundle_is_judged_by_the_spread_of_its_rewards() {
    let lossy = Lossy::new();
    let fp32 = lossy.fp32();
    let target = ["--target", "cpu", "--quantize", "int8"];
    let (bundle, exported) = lossy.export("int8", &fp32, &target);
    let hint = format!(
        "int8 costs accuracy: seeward-score --model {} --check says how much\n",
        bundle.display()
    );
    assert!(exported.ends_with(&hint), "{exported}");
    let (int8, _) = lossy.scores(&bundle);
    let share = share(&int8, &fp32);
    println!("int8 is off by {share:.3} of the spread");
    let expected = match share <= 0.3 {
        true => (Some(0), "allowed 0.3: as trained"),
        false => (Some(1), "allowed 0.3: not as trained"),
    };
    let (code, said) = check(&bundle);
    assert_eq!(code, expected.0, "{said}");
    assert!(said.contains(expected.1), "{said}");
    assert!(
        said.contains(&format!(
            "rewards are off by {share:.3} of the rewards' spread"
        )),
        "{said}"
    );
    // The same rewards as if training had measured them, and rewards of another model.
    let (code, said) = check(&lossy.int8(&int8));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("off by 0.000 of") && said.contains(": as trained"),
        "{said}"
    );
    let turned: Vec<f32> = int8.iter().map(|reward| -reward).collect();
    let (code, said) = check(&lossy.int8(&turned));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(": not as trained"), "{said}");
}

#[test]
fn rewards_that_are_few_or_alike_judge_nothing() {
    let lossy = Lossy::new();
    for (rewards, reason) in [
        (
            &[0.5; 12][..],
            "its 12 known rewards spread by 0.0e0, too little",
        ),
        (&[0.1, 0.9], "expected at least 4 known rewards, got 2"),
        (&[], "no probes"),
    ] {
        let (code, said) = check(&lossy.int8(rewards));
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("every file has its hash") && said.contains(reason),
            "{said}"
        );
        assert!(!said.contains("as trained"), "{said}");
        let (_, said) = lossy.scores(&lossy.path("int8"));
        assert!(
            said.contains(reason) && !said.contains("as trained"),
            "{said}"
        );
    }
    let (bundle, _) = lossy.export("fp32", &[0.5; 12], &[]);
    let (code, said) = check(&bundle);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("too little") && !said.contains("as trained"),
        "{said}"
    );
}

#[test]
fn errors_are_measured_once_and_kept_where_the_folder_permits() {
    let lossy = Lossy::new();
    let rewards = lossy.scores(&lossy.int8(&[])).0;
    let bundle = lossy.int8(&rewards);
    let notice =
        |said: &str| said.contains("is int8: rewards are off by 0.000 of the rewards' spread");
    let (_, said) = lossy.scores(&bundle);
    assert!(notice(&said), "{said}");
    // A later run reads what the first one has kept.
    let path = bundle.join(RECORD_FILE);
    let kept: Value = serde_json::from_slice(&fs::read(&path).expect("kept")).expect("JSON");
    let change = |section: &str, key: &str, value: Value| {
        let mut changed = kept.clone();
        changed[section][key] = value;
        fs::write(&path, changed.to_string()).expect("written");
        lossy.scores(&bundle).1
    };
    let half = json!(kept["errors"]["spread"].as_f64().expect("a number") / 2.0);
    let said = change("errors", "rms", half);
    assert!(
        said.contains("off by 0.500 of the rewards' spread") && said.contains("not as trained"),
        "{said}"
    );
    for condition in ["bundle", "version", "provider", "cpu"] {
        let said = change("conditions", condition, json!("another"));
        assert!(notice(&said), "{condition}: {said}");
        let now: Value = serde_json::from_slice(&fs::read(&path).expect("kept")).expect("JSON");
        assert_eq!(now, kept, "{condition}");
    }
    let said = lossy.evaluate(&bundle);
    assert!(notice(&said), "{said}");
    // What cannot be replaced stands for a folder that is read-only, which the superuser could write.
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    let (again, said) = lossy.scores(&bundle);
    assert_eq!(again, rewards);
    assert!(notice(&said), "{said}");
    assert_eq!(
        said.matches("the measured errors are not kept").count(),
        1,
        "{said}"
    );
    let (code, said) = check(&bundle);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the measured errors are not kept"), "{said}");
    let hidden = lossy.score(&bundle, &["--output", "-", "--text-only"]);
    succeed(&hidden);
    let hidden = String::from_utf8_lossy(&hidden.stderr).into_owned();
    assert!(
        hidden.contains("is unknown: input: it hides a part of the probes"),
        "{hidden}"
    );
}

#[test]
fn a_common_error_is_corrected_bit_for_bit() {
    let lossy = Lossy::new();
    let plain = lossy.scores(&lossy.int8(&[])).0;
    let trained: Vec<f32> = plain.iter().map(|reward| reward - 0.25).collect();
    let bundle = lossy.int8(&trained);
    let output = lossy.path("scores.jsonl");
    let files = ["--output", output.to_str().expect("a path")];
    let cure = "; --correct-mean removes the mean";
    let before = lossy.score(&bundle, &files);
    succeed(&before);
    assert!(said(&before).contains(cure), "{}", said(&before));
    let (code, said) = lossy.correct(&bundle, &[]);
    assert_eq!(code, Some(0), "{said}");
    let manifest = || fs::read(bundle.join(MANIFEST_FILE)).expect("a manifest");
    let first = manifest();
    let stored = Bundle::open(&bundle)
        .expect("a bundle")
        .manifest()
        .reward_offset
        .clone();
    let offset = stored.expect("an offset");
    assert!((offset.value + 0.25).abs() < 1e-6, "{offset:?}");
    assert_eq!((offset.rows, offset.from.as_str()), (6, "probes"));
    let (corrected, said) = lossy.scores(&bundle);
    assert!(said.contains("adds its reward_offset -0.2"), "{said}");
    let expected: Vec<f32> = plain.iter().map(|reward| reward + offset.value).collect();
    assert_eq!(corrected, expected);
    let (code, said) = check(&bundle);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("mean +0.000") || said.contains("mean -0.000"),
        "{said}"
    );
    assert!(!said.contains(cure), "{said}");
    let resumed = lossy.score(&bundle, &files);
    assert_eq!(resumed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(said.contains("the bundle has changed"), "{said}");
    // The second measurement is of the same rewards, not of the corrected ones.
    assert_eq!(lossy.correct(&bundle, &[]).0, Some(0));
    assert_eq!(manifest(), first);
}

#[test]
fn a_mean_error_is_measured_on_rows_with_known_scores() {
    let lossy = Lossy::new();
    let (bundle, fp32) = (lossy.int8(&[]), lossy.export("fp32", &[], &[]).0);
    let scored = lossy.score(&bundle, &["--output", "-"]);
    let changed = |line: &str, change: &dyn Fn(f32) -> f32| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        line["score"] = json!(change(line["score"].as_f64().expect("a score") as f32));
        line.to_string()
    };
    let lines = String::from_utf8(scored.stdout).expect("text");
    let lines: Vec<String> = lines
        .lines()
        .map(|line| changed(line, &|score| score + 0.5))
        .collect();
    let reference = lossy.path("reference.jsonl");
    let rows = lossy.path("checkpoint/rows.jsonl").display().to_string();
    let correct = |bundle: &Path, lines: &[String]| {
        fs::write(&reference, lines.join("\n")).expect("written");
        let reference = reference.to_str().expect("a path");
        lossy.correct(bundle, &["--input", &rows, "--reference", reference])
    };
    let refused = |lines: &[String], reason: &str| {
        let (code, said) = correct(&bundle, lines);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(reason), "{said}");
    };
    refused(
        &lines[..11],
        "reference.jsonl: expected the score of prompt ",
    );
    refused(
        &[&lines[..], &lines[..1]].concat(),
        "reference.jsonl:13: expected the end of the file",
    );
    refused(
        &[&lines[1..2], &lines[1..]].concat(),
        "reference.jsonl:1: expected the score of prompt",
    );
    let other = lines.iter().map(|line| changed(line, &|score| -score));
    let other: Vec<String> = other.collect();
    refused(&other, "no reward_offset is stored");
    let (code, said) = correct(&fp32, &lines);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("got fp32"), "{said}");
    assert!(
        Bundle::open(&bundle)
            .expect("a bundle")
            .manifest()
            .reward_offset
            .is_none()
    );
    let (code, said) = correct(&bundle, &lines);
    assert_eq!(code, Some(0), "{said}");
    let offset = Bundle::open(&bundle)
        .expect("a bundle")
        .manifest()
        .reward_offset
        .clone();
    let offset = offset.expect("an offset");
    assert!((offset.value - 0.5).abs() < 1e-6, "{offset:?}");
    assert_eq!((offset.rows, offset.from), (6, rows));
}

/// The same rows with messages and `images` have the same offset.
#[test]
fn a_mean_error_is_measured_on_conversations_too() {
    let lossy = Lossy::new();
    let bundle = lossy.int8(&[]);
    let rows = lossy.path("checkpoint/rows.jsonl");
    let as_messages = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        let question = row["prompt"].take();
        let question = format!("<image>\n{}", question.as_str().expect("a prompt"));
        row["messages"] = json!([{"role": "user", "content": question}]);
        row["images"] = json!([row["img_path"].take()]);
        format!("{row}\n")
    };
    let text = fs::read_to_string(&rows).expect("rows");
    let text: String = text.lines().map(as_messages).collect();
    fs::write(&rows, &text).expect("written");
    let scored = lossy.score(&bundle, &["--output", "-"]);
    let lines = String::from_utf8(scored.stdout).expect("text");
    assert_eq!(lines.lines().count(), 12, "{text}");
    let reference = lossy.path("reference.jsonl");
    fs::write(&reference, &lines).expect("written");
    let files = [&rows, &reference].map(|path| path.display().to_string());
    let arguments = ["--input", &*files[0], "--reference", &*files[1]];
    let (code, said) = lossy.correct(&bundle, &arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("reward_offset -0, from 6 rows")
            || said.contains("reward_offset +0, from 6 rows"),
        "{said}"
    );
    let other = lines.replacen("<image>", "<image> ", 1);
    fs::write(&reference, other).expect("written");
    let (code, said) = lossy.correct(&bundle, &arguments);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("reference.jsonl:1: expected the score of messages ["),
        "{said}"
    );
}
