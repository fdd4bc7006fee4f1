//! The README is true: its walk runs as printed, and the keys, flags, folders and files that it names exist.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use seeward_tests::golden;
use seeward_tests::program::program;
use seeward_train::config::Config;

const README: &str = include_str!("../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const TOKENIZER: &str = "the tokenizer's files";

/// The text under the heading `## title…`.
fn section(title: &str) -> &'static str {
    let start = README.find(&format!("\n## {title}"));
    let text = &README[start.unwrap_or_else(|| panic!("no section {title}")) + 1..];
    &text[..text.find("\n## ").unwrap_or(text.len())]
}

/// The fenced blocks of `language`, each with the line above it that says what it is.
fn blocks(text: &'static str, language: &str) -> Vec<(&'static str, &'static str)> {
    let fence = format!("\n```{language}\n");
    let starts = text.match_indices(&fence).map(|(start, _)| start);
    starts
        .map(|start| {
            let above = text[..start].trim_end().lines().last().unwrap();
            let block = &text[start + fence.len()..];
            (above, &block[..block.find("```").unwrap()])
        })
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The first cells of the table below the line `above`.
fn table(text: &'static str, above: &str) -> Vec<&'static str> {
    let start = text.find(above).unwrap_or_else(|| panic!("no {above}"));
    let rows = text[start..]
        .lines()
        .skip_while(|line| !line.starts_with('|'));
    rows.skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|line| line.split(" | ").next().unwrap())
        .collect()
}

/// Commands of the short forms, as (program, arguments).
fn commands(text: &'static str) -> Vec<(String, Vec<&'static str>)> {
    let lines = blocks(text, "sh")
        .into_iter()
        .flat_map(|(_, block)| block.lines());
    lines
        .filter_map(|line| line.split(" #").next().unwrap().strip_prefix("cargo "))
        .filter(|line| !line.starts_with("run "))
        .map(|line| {
            let mut words = line.split_whitespace();
            (
                format!("seeward-{}", words.next().unwrap()),
                words.collect(),
            )
        })
        .collect()
}

fn run(folder: &Path, name: &str, arguments: &[&str]) -> String {
    let output = program(name).args(arguments).current_dir(folder).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect()
}

/// The folder holds what the table says and nothing else.
fn holds(folder: &Path, cells: &[&str], tokenizer: &BTreeSet<String>) {
    let listed = cells.iter().flat_map(|cell| quoted(cell));
    let mut expected: BTreeSet<String> = listed.map(str::to_owned).collect();
    assert!(cells.contains(&TOKENIZER));
    expected.extend(tokenizer.clone());
    assert_eq!(names(folder), expected, "{}", folder.display());
}

#[test]
fn the_walk_from_rows_to_scores_runs_as_printed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let walk = section("Your own preferences");
    symlink(golden::path("models/qwen2"), folder.join("InternVL2-1B")).unwrap();
    fs::create_dir(folder.join("photos")).unwrap();
    for (number, image) in [(1, "vqa0"), (2, "vqa1")] {
        let image = golden::path(&format!("images/{image}.png"));
        fs::copy(image, folder.join(format!("photos/{number}.png"))).unwrap();
    }
    for (above, block) in [blocks(walk, "json"), blocks(walk, "yaml")].concat() {
        fs::write(folder.join(quoted(above).last().unwrap()), block).unwrap();
    }
    let commands = commands(walk);
    assert_eq!(commands.len(), 5);
    for (name, arguments) in commands {
        run(folder, &name, &arguments);
    }

    let scores = fs::read_to_string(folder.join("scores.jsonl")).unwrap();
    assert_eq!(scores.lines().count(), 3);
    assert!(scores.lines().all(|line| line.contains("\"id\":7")));

    let model = names(&folder.join("InternVL2-1B"));
    let weights = ["config.json", "model.safetensors"].map(str::to_owned);
    let tokenizer = &model - &BTreeSet::from(weights);
    let cells = table(section("Train"), "What a checkpoint holds");
    holds(&folder.join("out/mine/checkpoint-last"), &cells, &tokenizer);
    let cells = table(section("Export"), "What a bundle holds");
    holds(&folder.join("bundles/mine"), &cells, &tokenizer);
}

#[test]
fn every_flag_that_is_printed_exists() {
    let commands = commands(README);
    assert!(commands.len() > 8);
    for (name, arguments) in commands {
        let help = run(Path::new("."), &name, &["--help"]);
        for flag in arguments.iter().filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{name} has no {flag}"
            );
        }
    }
}

#[test]
fn every_config_key_that_is_printed_exists() {
    let cells = table(section("Train"), "Config keys").join(" ");
    let keys = quoted(&cells);
    assert!(keys.len() > 20);
    for key in keys {
        let key = key.split(':').next().unwrap();
        assert!(Config::KEYS.contains(&key), "{key}");
    }
}

#[test]
fn every_place_of_the_map_exists() {
    let cells = table(section("What is where"), "| | |");
    assert!(cells.len() > 6);
    for place in cells.iter().flat_map(|cell| quoted(cell)) {
        assert!(Path::new(ROOT).join(place).exists(), "{place}");
    }
}
