//! The documentation is true: its commands run as printed, in the order of the pages, and the keys, flags, formats,
//! messages, folders and files that it names exist. Of commands that need a GPU, a network or many rows only the flags are checked.

#![allow(clippy::unwrap_used)]

mod links;
mod names;
mod page;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use seeward_tests::golden;
use seeward_tests::program::program;

use page::{Invocation, Page, blocks, commands, quoted, table};

const TOKENIZER: &str = "the tokenizer's files";

/// The pages whose commands run, one after the other in one folder, each with the part of it.
const WALK: [(&str, &str); 6] = [
    ("README.md", "Your own preferences"),
    ("docs/training.md", ""),
    ("docs/export.md", ""),
    ("docs/scoring.md", ""),
    ("docs/scaling.md", ""),
    ("docs/evaluation.md", ""),
];
/// Commands in such blocks need a network, a GPU, or other data than the walk has.
const NOT_RUN: [&str; 5] = [
    "hf ",
    "make ",
    "--device cuda",
    "--correct-mean",
    "cargo import",
];

pub(crate) fn run(folder: &Path, name: &str, arguments: &[&str]) -> String {
    let output = program(name).args(arguments).current_dir(folder).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a folder.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect()
}

/// The folder holds the files of the table and nothing else.
fn holds(folder: &Path, cells: &[&str], tokenizer: &BTreeSet<String>) {
    let listed = cells.iter().flat_map(|cell| quoted(cell));
    let mut expected: BTreeSet<String> = listed.map(str::to_owned).collect();
    assert!(cells.contains(&TOKENIZER));
    expected.extend(tokenizer.clone());
    assert_eq!(names_in(folder), expected, "{}", folder.display());
}

/// A model and two images, as a reader has them.
fn material(folder: &Path) {
    symlink(golden::path("models/qwen2"), folder.join("InternVL2-1B")).unwrap();
    fs::create_dir(folder.join("photos")).unwrap();
    for (number, image) in [(1, "vqa0"), (2, "vqa1")] {
        let image = golden::path(&format!("images/{image}.png"));
        fs::copy(image, folder.join(format!("photos/{number}.png"))).unwrap();
    }
}

/// Writes the files that a page shows, and runs its commands.
fn walk(folder: &Path, text: &str) -> usize {
    for block in [blocks(text, "json"), blocks(text, "yaml")].concat() {
        fs::write(folder.join(quoted(block.above).last().unwrap()), block.text).unwrap();
    }
    let blocks = blocks(text, "sh");
    let runnable = blocks
        .iter()
        .filter(|block| !NOT_RUN.iter().any(|word| block.text.contains(word)));
    let commands: Vec<Invocation> = runnable.flat_map(commands).collect();
    for command in &commands {
        run(folder, &command.program, &command.arguments);
    }
    commands.len()
}

#[test]
fn the_walk_from_rows_to_scores_runs_as_printed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    material(folder);
    let pages = WALK.map(|(path, title)| (Page::read(Path::new(path)), title));
    let counts = pages
        .each_ref()
        .map(|(page, title)| walk(folder, page.section(title)));
    assert_eq!(counts, [4, 2, 3, 1, 3, 1]);

    let scores = fs::read_to_string(folder.join("scores.jsonl")).unwrap();
    assert_eq!(scores.lines().count(), 3);
    assert!(scores.lines().all(|line| line.contains("\"id\":7")));
    for file in ["stats.json", "report/report.html", "report/report.json"] {
        assert!(folder.join(file).is_file(), "{file}");
    }

    let [_, (training, _), (export, _), ..] = &pages;
    let model = names_in(&folder.join("InternVL2-1B"));
    let weights = ["config.json", "model.safetensors"].map(str::to_owned);
    let tokenizer = &model - &BTreeSet::from(weights);
    let cells = table(&training.text, "What a checkpoint holds");
    holds(&folder.join("out/mine/checkpoint-last"), &cells, &tokenizer);
    let cells = table(&export.text, "What a bundle holds");
    holds(&folder.join("bundles/mine"), &cells, &tokenizer);
}

#[test]
fn the_readme_is_at_most_200_lines() {
    let lines = Page::read(Path::new("README.md")).text.lines().count();
    assert!(lines <= 200, "{lines}");
}
