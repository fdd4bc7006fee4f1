//! Families through the programs that serve: text reward models, and those of whole images.

use std::fs;

use seeward_models::kinds::InputMode;
use seeward_tests::program::program;
use serde_json::{Value, json};

use crate::golden::{model, rows, rows_of, template};
use crate::training::succeeds;

const FAMILIES: [&str; 4] = ["qwen3_text", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"];

#[test]
fn bundles_are_evaluated() {
    FAMILIES.iter().for_each(|family| evaluated(family));
}

fn evaluated(family: &str) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mut export = program("seeward-export");
    export
        .arg("--checkpoint")
        .arg(model(family))
        .arg("--output")
        .arg(place("bundle"));
    succeeds(export.args(["--template", template(family).unwrap().name()]));
    // The response of the higher golden reward is the chosen one, but in the last row.
    let mut pairs: Vec<Value> = rows_of(family, InputMode::Full)
        .iter()
        .map(|row| row.better(0, 1))
        .collect();
    let last = pairs.last_mut().unwrap();
    *last = json!({
        "prompt": last["prompt"], "img_path": last["img_path"],
        "chosen": last["rejected"], "rejected": last["chosen"],
    });
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
            .arg(format!("pairs={}", place("pairs.jsonl").display())),
    );
    let report = fs::read_to_string(place("report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let accuracy = report["sets"]["pairs"]["accuracy"].as_f64();
    let expected = (pairs.len() - 1) as f64 / pairs.len() as f64;
    assert!(
        accuracy.is_some_and(|a| (a - expected).abs() < 1e-9),
        "{family}: {report}"
    );
    assert_eq!(pairs.len(), rows(family).len());
}
