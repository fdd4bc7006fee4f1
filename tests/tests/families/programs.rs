//! Text reward models through the programs that serve.

use std::fs;

use seeward_models::kinds::InputMode;
use seeward_tests::program::program;
use serde_json::{Value, json};

use crate::golden::{model, rows, rows_of, template};
use crate::training::succeeds;

const FAMILY: &str = "qwen3_text";

#[test]
fn a_text_bundle_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mut export = program("seeward-export");
    export
        .arg("--checkpoint")
        .arg(model(FAMILY))
        .arg("--output")
        .arg(place("bundle"));
    succeeds(export.args(["--template", template(FAMILY).unwrap().name()]));
    // The response of the higher golden reward is the chosen one, but in the last row.
    let mut pairs: Vec<Value> = rows_of(FAMILY, InputMode::Full)
        .iter()
        .map(|row| row.better(0, 1))
        .collect();
    let last = pairs.last_mut().unwrap();
    *last =
        json!({"prompt": last["prompt"], "chosen": last["rejected"], "rejected": last["chosen"]});
    let lines: Vec<String> = pairs.iter().map(Value::to_string).collect();
    fs::write(place("pairs.jsonl"), lines.join("\n")).unwrap();
    let mut evaluate = program("seeward-evaluate");
    evaluate
        .arg("--model")
        .arg(place("bundle"))
        .arg("--output")
        .arg(place("report"));
    succeeds(
        evaluate
            .arg("--data")
            .arg(format!("text={}", place("pairs.jsonl").display())),
    );
    let report = fs::read_to_string(place("report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let accuracy = report["sets"]["text"]["accuracy"].as_f64();
    let expected = (pairs.len() - 1) as f64 / pairs.len() as f64;
    assert!(
        accuracy.is_some_and(|a| (a - expected).abs() < 1e-9),
        "{report}"
    );
    assert_eq!(pairs.len(), rows(FAMILY).len());
}
