//! Rows that are compressed, an array or from a pipe: training unpacks them and computes the same.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Run, golden, message, weights};

/// A JSON array of the golden pairs, compressed, with absolute image paths.
fn write_array(path: &Path) {
    let rows = fs::read_to_string(golden("train/pairwise.jsonl")).unwrap();
    let rows: Vec<Value> = rows
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    fs::write(path, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    let zipped = Command::new("gzip").arg(path).status().unwrap();
    assert!(zipped.success());
}

#[test]
fn unpacked_rows_train_the_same_weights_and_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let array = folder.path().join("rows.json");
    write_array(&array);
    let plain = Run::new("max_steps: 2").succeed();
    let keys = |dataset: &str| {
        let root = golden("train");
        let zipped = format!("{}.gz", array.display());
        let dataset = dataset.replace("ROWS", &zipped);
        format!(
            "max_steps: 2\nimage_root: {}\ndataset_path: {dataset}\neval_data: {{dev: {zipped}}}",
            root.display()
        )
    };
    let run = Run::new(&keys("ROWS")).succeed();
    assert_eq!(weights(&run.last()), weights(&plain.last()));
    assert!(!run.output().join("rows").exists());
    // From a pipe.
    let run = Run::new(&keys("\"-\""));
    let mut child = run
        .program()
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let zipped = fs::read(folder.path().join("rows.json.gz")).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &zipped).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(weights(&run.last()), weights(&plain.last()));
}

#[test]
fn a_dry_run_unpacks_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let array = folder.path().join("rows.json");
    write_array(&array);
    let run = Run::new(&format!("image_root: {}", golden("train").display()));
    let dataset = format!("dataset_path={}.gz", array.display());
    let survey = run.train(&["--dry-run", "--set", &dataset]);
    assert!(survey.status.success(), "{}", message(&survey));
    let survey: Value = serde_json::from_slice(&survey.stdout).unwrap();
    assert_eq!(
        (&survey["rows"], &survey["images"]),
        (&12.into(), &12.into())
    );
    assert!(!run.output().exists());
    // What holds no rows is one error.
    let table = folder.path().join("rows.csv");
    fs::write(&table, "prompt,chosen,rejected\np,a,b\n").unwrap();
    let stderr = run.refuse(&["--set", &format!("dataset_path={}", table.display())]);
    assert!(
        stderr.contains("got a table with a heading (CSV)"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
}
