//! `--format` and `dataset_format`: the format of rows whose keys are ambiguous.

use std::fs;

use crate::support::Run;

/// The pairs of `Run::new`'s rows, each with a key of another format.
#[test]
fn a_named_format_is_recorded_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let row = r#"{"prompt": "p", "chosen": "a", "rejected": "b", "rejected_response": "c"}"#;
    fs::write(&rows, format!("{row}\n").repeat(4)).unwrap();
    let path = rows.display();
    let run = Run::new(&format!(
        "dataset_path: {path}\neval_data: {{dev: {path}}}\nmax_steps: 1"
    ));
    let stderr = run.refuse(&[]);
    assert!(stderr.contains("keys of two formats"), "{stderr}");
    let output = run.train(&["--format", "pairwise"]);
    assert!(output.status.success(), "{output:?}");
    let resolved = fs::read_to_string(run.last().join("config.resolved.yaml")).unwrap();
    assert!(
        resolved.contains("\ndataset_format: pairwise\n"),
        "{resolved}"
    );
    let stderr = run.refuse(&["--set", "dataset_format=trl"]);
    assert!(
        stderr.contains("the run was started with another dataset_format"),
        "{stderr}"
    );
    let stderr = run.refuse(&["--format", "csv"]);
    assert!(
        stderr.contains("pairwise") && stderr.contains("--format"),
        "{stderr}"
    );
}
