//! Rows whose images cannot be decoded are skipped up to a limit, in every run over the same files alike.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Run, golden, message, weights};

/// Writes the golden pairs with changes by row number: two images, none, different ones for each side, or broken ones.
fn rows(folder: &Path, broken: &[usize]) -> String {
    let text = fs::read_to_string(golden("train/pairwise.jsonl")).unwrap();
    let image = |name: usize| golden(&format!("images/train_{name}.png"));
    fs::write(folder.join("broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let row = |(number, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row["img_path"] = match number {
            _ if broken.contains(&number) => json!("broken.png"),
            1 => json!([image(0), image(1)]),
            5 => json!(null),
            _ => json!(image(number % 4)),
        };
        if number == 7 {
            row["img_path"] = json!(null);
            row["chosen_img_path"] = json!(image(2));
            row["rejected_img_path"] = json!([image(3), image(0)]);
        }
        row.to_string()
    };
    let rows: Vec<String> = text.lines().enumerate().map(row).collect();
    let path = folder.join("rows.jsonl");
    fs::write(&path, rows.join("\n")).unwrap();
    path.display().to_string()
}

fn run(keys: &str, broken: &[usize]) -> Run {
    let run = Run::new(&format!(
        "dataset_path: ROWS\nper_device_train_batch_size: 2\nnum_train_epochs: 1\nmax_steps: -1\nsave_steps: 2\n{keys}"
    ));
    let rows = rows(run.folder.path(), broken);
    let config = run.folder.path().join("config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replace("ROWS", &rows)).unwrap();
    run
}

#[test]
fn a_run_skips_them_and_does_so_alike_after_an_interruption() {
    // Steps of two rows in the file's order: the second loses one row, the fifth both.
    let keys = "shuffle: false\nmax_bad_fraction: 0.3";
    let whole = run(keys, &[2, 8, 9]);
    let output = whole.train(&[]);
    let stderr = message(&output);
    assert!(output.status.success(), "{stderr}");
    for line in [3, 9, 10] {
        let place = format!("rows.jsonl:{line}: ");
        let notices = stderr
            .lines()
            .filter(|l| l.contains(&place) && l.contains("skipped"));
        assert_eq!(notices.count(), 1, "{stderr}");
    }
    // A step without rows passes without measures.
    let steps: Vec<u64> = whole
        .metrics()
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 6]);
    // As after an interruption at step 2: the checkpoint records the rows that were skipped by then.
    let resumed = run(keys, &[2, 8, 9]).succeed();
    for name in ["checkpoint-4", "checkpoint-last"] {
        fs::remove_dir_all(resumed.output().join(name)).unwrap();
    }
    let stderr = message(&resumed.train(&[]));
    assert!(
        !stderr.contains("rows.jsonl:3: ") && stderr.contains("rows.jsonl:9: "),
        "{stderr}"
    );
    assert_eq!(resumed.records(), whole.records());
    assert_eq!(weights(&resumed.last()), weights(&whole.last()));
    // The same rows exceed a lower limit, whether or not the run was interrupted.
    fs::remove_dir_all(resumed.last()).unwrap();
    fs::remove_dir_all(resumed.output().join("checkpoint-4")).unwrap();
    let stderr = resumed.refuse(&["--set", "max_bad_fraction=0.2"]);
    assert!(
        stderr.contains("rows.jsonl:10: ") && stderr.contains("3 of 12 rows are unreadable"),
        "{stderr}"
    );
}

#[test]
fn without_a_limit_the_first_one_ends_the_run() {
    let run = run("shuffle: false", &[2]);
    let stderr = run.refuse(&[]);
    assert!(
        stderr.contains("step 2: ") && stderr.contains("rows.jsonl:3: "),
        "{stderr}"
    );
}

#[test]
fn evaluation_sets_have_the_same_limit() {
    let run = run("max_bad_fraction: 0.1", &[]);
    let other = tempfile::tempdir().unwrap();
    let path = rows(other.path(), &[4]);
    let set = format!("eval_data={{dev: {path}}}");
    let output = run.train(&["--set", &set]);
    let stderr = message(&output);
    assert!(
        output.status.success() && stderr.contains("rows.jsonl:5: "),
        "{stderr}"
    );
    let path = rows(other.path(), &[4, 5]);
    let set = format!("eval_data={{dev: {path}}}");
    let stderr = run.refuse(&["--set", &set, "--set", "overwrite_output_dir=true"]);
    assert!(stderr.contains("2 of 12 rows are unreadable"), "{stderr}");
}

#[test]
fn a_run_grouped_by_length_resumes_with_the_same_rows() {
    let keys = "group_by_length: true";
    let whole = run(keys, &[]).succeed();
    let resumed = run(keys, &[]).succeed();
    for name in ["checkpoint-4", "checkpoint-last"] {
        fs::remove_dir_all(resumed.output().join(name)).unwrap();
    }
    let resumed = resumed.succeed();
    assert_eq!(resumed.records(), whole.records());
    assert_eq!(weights(&resumed.last()), weights(&whole.last()));
    let plain = run("", &[]).succeed();
    assert_ne!(plain.series("loss"), whole.series("loss"));
}
