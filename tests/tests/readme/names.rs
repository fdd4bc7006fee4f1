//! The flags, keys, formats, targets, messages, files and folders that the pages name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use seeward_models::sample::Format;
use seeward_tests::program::PROGRAMS;
use seeward_train::config::Config;

use crate::page::{
    Page, ROOT, blocks, commands, current_pages, documentation, paths, quoted, table,
};
use crate::run;

/// Flags of cargo.
const FOREIGN_FLAGS: [&str; 1] = ["--test"];
/// Commands of others, whose flags are not ours.
const FOREIGN_COMMANDS: [&str; 8] = [
    "cargo build ",
    "cargo check ",
    "cargo clean ",
    "cargo package ",
    "cargo test ",
    "git ",
    "rustc ",
    "tensorboard ",
];
/// Messages of others: the loader, the C library and LibTorch.
const FOREIGN_MESSAGES: [&str; 7] = [
    "cannot open shared object file",
    "No space left on device",
    "no such file",
    "file too short",
    "Could not run",
    "Found no NVIDIA driver",
    "libcuda.so.1",
];

fn helps() -> BTreeMap<&'static str, String> {
    PROGRAMS
        .map(|name| (name, run(Path::new("."), name, &["--help"])))
        .into()
}

fn has_flag(help: &str, flag: &str) -> bool {
    [' ', '\n', ',', '"']
        .iter()
        .any(|end| help.contains(&format!("{flag}{end}")))
}

fn read(path: &Path) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_default()
}

/// The text of the programs and scripts with one of the `extensions`, without line breaks inside of strings.
fn sources(extensions: &[&str]) -> String {
    let of_kind = |path: &&std::path::PathBuf| {
        let extension = path.extension().map_or("", |e| e.to_str().unwrap_or("?"));
        extensions.contains(&extension) && !path.iter().any(|part| part == "tests")
    };
    let paths = paths();
    let texts = paths.iter().filter(of_kind).map(|path| read(path));
    texts.map(|text| joined(&text)).collect()
}

/// Lines of a string that a backslash continues, as one.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |all, part| all + part.trim_start())
}

#[test]
fn every_flag_of_a_printed_command_exists() {
    let helps = helps();
    let mut count = 0;
    for page in documentation() {
        for command in blocks(&page.text, "sh").iter().flat_map(commands) {
            let program = command.program.as_str();
            let help = helps.get(program);
            let help = help.unwrap_or_else(|| panic!("{}: {program}", page.path.display()));
            for flag in command
                .arguments
                .iter()
                .filter(|word| word.starts_with("--"))
            {
                assert!(
                    has_flag(help, flag),
                    "{}: {program} has no {flag}",
                    page.path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 12, "{count}");
}

#[test]
fn every_flag_that_is_named_exists() {
    let helps = helps();
    let scripts = sources(&["py"]);
    for page in current_pages() {
        let is_foreign = |span: &&str| FOREIGN_COMMANDS.iter().any(|c| span.starts_with(c));
        for span in page.spans().into_iter().filter(|span| !is_foreign(span)) {
            for flag in span
                .split_whitespace()
                .filter(|word| word.starts_with("--"))
            {
                let exists = helps.values().any(|help| has_flag(help, flag))
                    || scripts.contains(&format!("\"{flag}\""))
                    || FOREIGN_FLAGS.contains(&flag);
                assert!(exists, "{}: no program has {flag}", page.path.display());
            }
        }
    }
}

#[test]
fn the_config_keys_are_those_of_the_program() {
    let training = Page::read(Path::new("docs/training.md"));
    let rows = training.section("Config keys").lines();
    let cells = rows.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let keys = cells.map(|cell| format!("`{cell}")).collect::<String>();
    let keys: Vec<&str> = quoted(&keys)
        .iter()
        .map(|key| key.split(':').next().unwrap())
        .collect();
    for key in &keys {
        assert!(Config::KEYS.contains(key), "{key} does not exist");
    }
    for key in Config::KEYS {
        assert!(keys.contains(key), "{key} is not documented");
    }
}

#[test]
fn the_formats_are_those_of_the_library() {
    let evaluation = Page::read(Path::new("docs/evaluation.md"));
    let cells = table(&evaluation.text, "## Dataset formats");
    let documented: Vec<&str> = cells.iter().flat_map(|cell| quoted(cell)).collect();
    let problem = Format::from_str("?").unwrap_err().to_string();
    let (_, names) = problem.rsplit_once("one of ").unwrap();
    assert_eq!(documented, names.split(", ").collect::<Vec<_>>());
}

#[test]
fn every_place_of_the_map_exists() {
    let readme = Page::read(Path::new("README.md"));
    let cells = table(readme.section("What is where"), "| | |");
    assert!(cells.len() > 6);
    for place in cells.iter().flat_map(|cell| quoted(cell)) {
        assert!(Path::new(ROOT).join(place).exists(), "{place}");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let paths = paths();
    let top = |path: &str| {
        let first = path.split('/').next().unwrap_or("");
        !first.is_empty()
            && path.contains('/')
            && paths.iter().any(|known| known.starts_with(first))
    };
    let mut count = 0;
    for page in current_pages() {
        let words = page.spans().into_iter().flat_map(str::split_whitespace);
        for path in words.filter(|word| top(word) && !word.contains(['*', '{', '…', '<'])) {
            // In `tests/golden` paths are relative to the page's folder.
            let folder = page.path.parent().unwrap();
            let exists =
                [Path::new(""), folder].map(|base| Path::new(ROOT).join(base).join(path).exists());
            assert!(exists.contains(&true), "{}: no {path}", page.path.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_rust_path_that_is_named_exists() {
    let sources = sources(&["rs"]);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = sources.split(|c| !is_part(c)).collect();
    let mut count = 0;
    for page in current_pages() {
        for path in page.spans().into_iter().filter(|span| span.contains("::")) {
            for name in path.split(|c| !is_part(c)).filter(|name| !name.is_empty()) {
                assert!(names.contains(name), "{}: no {path}", page.path.display());
                count += 1;
            }
        }
    }
    assert!(count > 4, "{count}");
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read(Path::new("Makefile"));
    let mut count = 0;
    for page in current_pages() {
        let blocks = blocks(&page.text, "sh");
        let lines = blocks.iter().flat_map(|block| block.text.lines());
        for line in lines.chain(page.spans()) {
            let Some(target) = line.strip_prefix("make ") else {
                continue;
            };
            let target = target.split_whitespace().next().unwrap();
            let exists = makefile.contains(&format!("\n{target}:"));
            assert!(exists, "{}: no target {target}", page.path.display());
            count += 1;
        }
    }
    assert!(count > 8, "{count}");
}

#[test]
fn every_message_that_has_a_cure_exists() {
    let sources = sources(&["rs", "h", "cc", "py"]).replace('`', "");
    let page = Page::read(Path::new("docs/troubleshooting.md"));
    let cells = table(&page.text, "| message |");
    assert!(cells.len() > 15);
    for message in cells.iter().flat_map(|cell| quoted(cell)) {
        // NaN, a count and a version are values in the source.
        let message = message.replace("NaN", "…");
        let parts = message.split(|c: char| "….:".contains(c) || c.is_ascii_digit());
        for part in parts.map(str::trim).filter(|part| part.len() > 3) {
            let is_foreign = FOREIGN_MESSAGES
                .iter()
                .any(|foreign| part.contains(foreign));
            let exists = sources.contains(part) || is_foreign;
            assert!(exists, "no message has \"{part}\", of \"{message}\"");
        }
    }
}
