//! `--dry-run`: counts, problems and estimates of a run, without writing anything.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Run, golden, message, weights};

fn survey(run: &Run, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = run.train(&[&["--dry-run"], arguments].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}{}", message(&output));
    assert!(!run.output().exists());
    (
        output.status.code(),
        serde_json::from_str(&text).unwrap(),
        message(&output),
    )
}

#[test]
fn the_survey_of_the_golden_pairs() {
    let run = Run::new("");
    let (status, survey, stderr) = survey(&run, &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    // The golden model's tokens are what training reads; max_length cuts none of them.
    let tokens = survey["tokens"].clone();
    let saved = survey["work_saved"].clone();
    // A pair shares its image, and its prefix but for the responses.
    assert!((0.4..0.5).contains(&saved.as_f64().unwrap()), "{saved}");
    let elements: usize = weights(&golden("models/qwen2"))
        .values()
        .map(Vec::len)
        .sum();
    let memory = survey["memory"].clone();
    let bytes = |key: &str| memory[key].as_u64().unwrap() as usize;
    assert_eq!(
        bytes("weights"),
        4 * elements,
        "the score head is in the golden model"
    );
    // The output projection does not train.
    assert!(bytes("gradients") < bytes("weights") && bytes("gradients") > bytes("weights") / 2);
    assert_eq!(bytes("optimizer"), 2 * bytes("gradients"));
    assert_eq!(
        survey,
        json!({
            "rows": 12, "pairs": 12, "ties_dropped": 0, "non_numeric_dropped": 0, "unreadable_rows": 0,
            "images": 12, "missing_images": 0, "unreadable_images": 0, "refused": 0,
            "tiles": {"p50": 1, "p95": 7, "max": 7}, "tokens": tokens, "truncated": 0,
            "work_saved": saved, "memory": memory, "steps_per_epoch": 3, "total_steps": 4,
        })
    );
    assert!(tokens["p50"].as_u64() < tokens["p95"].as_u64());
    assert!(tokens["p95"].as_u64() <= tokens["max"].as_u64());
}

#[test]
fn tokens_are_counted_as_training_reads_them() {
    // One row: its longer side is the maximum. The white image of the text-only ablation has one tile of four tokens.
    let run = Run::new("use_text_only: true");
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let long = "word ".repeat(50);
    let row = json!({"prompt": "p", "chosen": "a", "rejected": long});
    fs::write(&rows, row.to_string()).unwrap();
    let path = format!("dataset_path={}", rows.display());
    let (_, whole, _) = survey(&run, &["--set", &path]);
    let (short, max) = (&whole["tokens"]["p50"], &whole["tokens"]["max"]);
    assert!(
        max.as_u64().unwrap() > short.as_u64().unwrap() + 50,
        "{whole}"
    );
    assert_eq!(whole["truncated"], 0);
    let limit = max.as_u64().unwrap() - 1;
    let (_, cut, _) = survey(
        &run,
        &["--set", &path, "--set", &format!("max_length={limit}")],
    );
    assert_eq!(
        (&cut["tokens"]["max"], &cut["truncated"]),
        (&json!(limit), &json!(1))
    );
}

#[test]
fn dropped_pairs_of_rated_completions_are_counted() {
    let path = format!(
        "dataset_path={}",
        golden("train/vlfeedback.jsonl").display()
    );
    let (_, survey, _) = survey(&Run::new(""), &["--set", &path]);
    let published = fs::read_to_string(golden("train/vlfeedback_pairs.json")).unwrap();
    let published: Value = serde_json::from_str(&published).unwrap();
    let number = |key: &str| survey[key].as_u64().unwrap();
    assert_eq!(
        (number("rows"), number("pairs")),
        (7, published["kept"].as_u64().unwrap())
    );
    let dropped = number("ties_dropped") + number("non_numeric_dropped");
    assert_eq!(dropped, published["skipped"].as_u64().unwrap());
    assert!(number("ties_dropped") > 0 && number("non_numeric_dropped") > 0);
}

#[test]
fn keys_that_hold_images_are_refused_unless_the_config_carries_them() {
    let rows = tempfile::NamedTempFile::new().unwrap();
    let row = json!({"prompt": "p", "image_path": "a.png", "chosen": "a", "rejected": "b"});
    fs::write(rows.path(), row.to_string()).unwrap();
    let path = format!("dataset_path={}", rows.path().display());
    let (status, counts, stderr) = survey(&Run::new(""), &["--set", &path]);
    assert_eq!((status, &counts["unreadable_rows"]), (Some(1), &json!(1)));
    assert!(
        stderr.contains("image_path: not read in rows of format pairwise"),
        "{stderr}"
    );
    let carry = ["--set", &path, "--set", "carry=image_path"];
    let (status, counts, _) = survey(&Run::new(""), &carry);
    assert_eq!((status, &counts["pairs"]), (Some(0), &json!(1)));
}

#[test]
fn problems_are_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let broken = write("broken.png", b"\x89PNG\r\n\x1a\n");
    let text = write("text.png", b"not an image");
    let row =
        |image: &str| json!({"prompt": "p", "img_path": image, "chosen": "a", "rejected": "b"});
    let good = row(&golden("images/train_0.png").display().to_string());
    let forged = json!({"prompt": "<IMG_CONTEXT>", "chosen": "a", "rejected": "b"});
    let lines = [
        good.to_string(),
        "{".into(),
        row(&broken).to_string(),
        row("none.png").to_string(),
        row("none.png").to_string(),
        row(&text).to_string(),
        forged.to_string(),
        "{\"prompt\": 1}".into(),
    ];
    let rows = write("rows.jsonl", lines.join("\n").as_bytes());
    let path = format!("dataset_path={rows}");
    let (status, survey, stderr) = survey(&Run::new(""), &["--set", &path]);
    assert_eq!(status, Some(1));
    for (key, expected) in [
        ("rows", 8),
        ("pairs", 6),
        ("unreadable_rows", 2),
        ("images", 4),
        ("missing_images", 1),
        ("unreadable_images", 2),
        ("refused", 1),
    ] {
        assert_eq!(survey[key], expected, "{key}: {survey}");
    }
    for line in [2, 3, 4, 6, 7, 8] {
        assert!(
            stderr.contains(&format!("{rows}:{line}: ")),
            "{line}: {stderr}"
        );
    }
    assert_eq!(stderr.lines().count(), 6, "{stderr}");
}

#[test]
fn only_headers_are_read() {
    // An image without pixels: training refuses it, but its header suffices for the survey.
    let folder = tempfile::tempdir().unwrap();
    let image = fs::read(golden("images/train_0.png")).unwrap();
    fs::write(folder.path().join("cut.png"), &image[..60]).unwrap();
    let row = json!({"prompt": "p", "img_path": "cut.png", "chosen": "a", "rejected": "b"});
    let rows = folder.path().join("rows.jsonl");
    fs::write(&rows, row.to_string()).unwrap();
    let path = format!("dataset_path={}", rows.display());
    let (status, survey, stderr) = survey(&Run::new(""), &["--set", &path]);
    assert_eq!(
        (status, &survey["unreadable_images"]),
        (Some(0), &json!(0)),
        "{stderr}"
    );
    let run = Run::new("");
    let stderr = run.refuse(&["--set", &path]);
    assert!(stderr.contains("cut.png"), "{stderr}");
}
