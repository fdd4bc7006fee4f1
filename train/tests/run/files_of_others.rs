//! Rows and configs as other programs and editors write them.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Run, golden, message};

/// Question, chosen and rejected answer about one image.
const PAIRS: [[&str; 3]; 4] = [
    [
        "what colour is the largest shape?",
        "It is blue.",
        "It is pink, I am sure.",
    ],
    [
        "what lies to the left of it?",
        "A red square.",
        "Nothing at all.",
    ],
    ["is there a circle?", "Yes.", "No."],
    ["which shape is green?", "The small one.", "None of them."],
];

/// The first loss on the pairs as `row` writes them, each with a margin.
fn first_loss(margin: f64, row: impl Fn([&str; 3]) -> Value) -> f64 {
    let run = Run::new("max_steps: 1\nper_device_train_batch_size: 4\nlogging_steps: 1");
    let rows = PAIRS.map(|pair| {
        let mut row = row(pair);
        row["margin"] = json!(margin);
        format!("{row}\n")
    });
    let path = run.folder.path().join("rows.jsonl");
    fs::write(&path, rows.concat()).unwrap();
    fs::copy(golden("images/shapes.png"), run.folder.path().join("a.png")).unwrap();
    let output = run.train(&["--set", &format!("dataset_path={}", path.display())]);
    assert!(output.status.success(), "{}", message(&output));
    run.series("loss")[0]
}

#[test]
fn a_margin_counts_in_every_format() {
    let pairwise = |[prompt, chosen, rejected]: [&str; 3]| json!({"prompt": prompt, "img_path": "a.png", "chosen": chosen, "rejected": rejected});
    let swift = |[prompt, chosen, rejected]: [&str; 3]| {
        let messages = json!([
            {"role": "user", "content": format!("<image>{prompt}")},
            {"role": "assistant", "content": chosen},
        ]);
        json!({"messages": messages, "rejected_response": rejected, "images": ["a.png"]})
    };
    let swapped = |[prompt, chosen, rejected]: [&str; 3]| pairwise([prompt, rejected, chosen]);
    // With a margin m that is large, −log σ(d − m) is m − d, and m + d with the sides swapped.
    const MARGIN: f64 = 50.0;
    let (loss, mirrored) = (first_loss(MARGIN, pairwise), first_loss(MARGIN, swapped));
    assert!(
        (loss + mirrored - 2.0 * MARGIN).abs() < 1e-3,
        "{loss} {mirrored}"
    );
    assert!((loss - mirrored).abs() > 0.1, "{loss} {mirrored}");
    for margin in [0.0, 5.0, MARGIN] {
        let [a, b] = [first_loss(margin, pairwise), first_loss(margin, swift)];
        assert!((a - b).abs() < 1e-5, "{margin}: {a} and {b}");
    }
}

#[test]
fn configs_are_read_as_pyyaml_reads_them() {
    for (before, after, seed) in [
        ("\u{feff}", "seed: 7", 7),
        ("", "<<: {seed: 7}", 7),
        ("", "seed: 010", 8),
    ] {
        let run = Run::new("max_steps: 1");
        let path = run.folder.path().join("config.yaml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{before}{config}\n{after}\n")).unwrap();
        let output = run.train(&[]);
        assert!(output.status.success(), "{after}: {}", message(&output));
        let resolved = fs::read_to_string(run.output().join("config.resolved.yaml")).unwrap();
        let seed = format!("\nseed: {seed}\n");
        assert!(resolved.contains(&seed), "{after}: {resolved}");
    }
}
