//! One word per concept: the retired words of CONTRIBUTING's glossary stay out of code, comments, messages and pages.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A retired word or phrase, as whole words in any case and across line breaks, and its replacement. A `*` at the end
/// stands for any ending; `|` separates variants.
const PHRASES: &[(&str, &str)] = &[
    ("picture*", "image"),
    ("processor*|processors", "CPU"),
    ("behind", "after"),
    ("go on|goes on|going on|went on|gone on", "resume, continue"),
    (
        "left out|leave out|leaves out|leaving out",
        "skipped, skip, omit",
    ),
    ("so many|as many as there", "N, a count"),
    ("of its own|of their own|of ours", "its own, separate"),
    ("held against|hold against|set against", "compared with"),
    ("beside", "next to, with, compared with"),
    ("apart", "differ by, separate"),
    ("as it was|as they were", "unchanged"),
    ("is none|are none", "a plain statement"),
    ("whoever", "callers that"),
    ("afresh|anew", "from scratch, again"),
    ("mend|mends|mended", "fix"),
    ("news|told|tell|tells", "notices, log, report"),
    ("what is kept", "cache"),
];

/// A retired identifier, in Rust, and its replacement.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("Batching", "BatchConfig"),
    ("Busy", "QueueFull"),
    ("plus_products", "dot2_bf16"),
    ("or_least", "mask_neg_inf"),
    ("times_two_to", "scale_by_pow2"),
    ("weigh", "softmax_row"),
    ("mix", "weighted_sum"),
    ("Gallery", "ImageSet"),
    ("Shown", "VisionInputs"),
    ("Asked", "RequestInfo"),
    ("Pictures", "VisionBatch"),
    ("left_out", "skipped_rows"),
    ("is_for_the_processor", "is_cpu"),
    ("Pieces", "ChunkedTensor"),
    ("Apart", "LoraRestore"),
    ("answering", "inference"),
    ("gelus", "Value::quantization"),
    ("has_narrow_attention", "AttentionKind"),
    ("has_causal_attention", "AttentionKind"),
    ("heads_are_an_axis", "AttentionKind"),
];

/// A line with one of these is exempt: other names, data, and other meanings.
const EXCEPTIONS: &[&str] = &[
    "preprocessor", // the struct that prepares pairs, and Hugging Face's preprocessor_config.json
    "post_processor", // of the tokenizers library
    "processor_class",
    "processor_config.json", // Hugging Face's
    "image_processor",
    "in the picture", // the demo's sentences, which decide its results
    "the picture shows",
    "\"picture\"",
    "\"pictures\"",
    "set against a plain background",
    "can tell", // answers in data
    "cannot tell",
    "can not tell",
    "so many requests in a call are",
    "apart from",
    "rename = \"left_out\"", // a field on disk
];

/// The glossary and this table name the retired words; the changelog names old names.
const EXEMPT: [&str; 3] = ["CONTRIBUTING.md", "CHANGELOG.md", "tests/tests/words.rs"];
const KINDS: [&str; 12] = [
    "rs", "md", "py", "yaml", "yml", "toml", "mk", "h", "cc", "css", "txt", "",
];

fn tracked() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.current_dir(ROOT).args(["ls-files", "-z"]);
    let listed = git.output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    paths.map(PathBuf::from).collect()
}

/// Whether the project wrote the file: no data, no licence text.
fn is_ours(path: &Path) -> bool {
    let kind = path.extension().map_or("", |e| e.to_str().unwrap_or("?"));
    let is_data = path.starts_with("tests/golden") && kind != "md";
    let is_exempt = EXEMPT.iter().any(|exempt| path == Path::new(exempt));
    KINDS.contains(&kind) && !is_data && !is_exempt && path != Path::new("LICENSE")
}

/// The words of a text, identifiers as one, without punctuation; each with its line.
fn words(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(number, line)| of_line(number + 1, line))
        .collect()
}

fn of_line(number: usize, line: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || "_'’".contains(c);
    let words = line.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    words.map(|word| (number, word)).collect()
}

fn fits(word: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => word == pattern,
    }
}

/// The lines on which `phrase` begins. A single word is also looked for in the parts of identifiers; the first word of
/// several may be capitalised.
fn phrase_lines(words: &[(usize, &str)], phrase: &str) -> Vec<usize> {
    let pattern: Vec<&str> = phrase.split(' ').collect();
    let first = |word: &str| {
        let word = word.to_lowercase();
        let mut parts = word.split(|c| pattern.len() == 1 && c == '_');
        parts.any(|part| fits(part, pattern[0]))
    };
    let windows = words.windows(pattern.len());
    let found = windows.filter(|window| {
        let rest = window[1..].iter().zip(&pattern[1..]);
        first(window[0].1)
            && rest
                .into_iter()
                .all(|((_, word), pattern)| fits(word, pattern))
    });
    found.map(|window| window[0].0).collect()
}

fn is_exception(line: &str) -> bool {
    let line = line.to_lowercase();
    EXCEPTIONS.iter().any(|exception| line.contains(exception))
}

/// The lines whose code has `name` as a whole identifier.
fn identifier_lines(text: &str, name: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        code.split(|c| !is_part(c)).any(|word| word == name)
    };
    let lines = text.lines().enumerate().filter(|(_, line)| holds(line));
    lines.map(|(number, _)| number + 1).collect()
}

fn problems(path: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(Path::new(ROOT).join(path)) else {
        return Vec::new(); // removed, or not text
    };
    let words = words(&text);
    let lines: Vec<&str> = text.lines().collect();
    let mut problems = Vec::new();
    for (phrases, better) in PHRASES {
        for phrase in phrases.split('|') {
            for line in phrase_lines(&words, phrase) {
                if !is_exception(lines[line - 1]) {
                    problems.push(format!("{}:{line}: {phrase} → {better}", path.display()));
                }
            }
        }
    }
    if path.extension().is_some_and(|e| e == "rs") {
        for (name, better) in IDENTIFIERS {
            let found = identifier_lines(&text, name).into_iter();
            let found = found.filter(|line| !is_exception(lines[line - 1]));
            problems
                .extend(found.map(|line| format!("{}:{line}: {name} → {better}", path.display())));
        }
    }
    problems
}

#[test]
fn retired_words_are_found_across_lines_and_in_identifiers() {
    let text = "/// A run goes\n/// on from here.\nfn picture_of() {}";
    let words = words(text);
    assert_eq!(phrase_lines(&words, "goes on"), [1]);
    assert_eq!(phrase_lines(&words, "picture*"), [3]);
    assert!(phrase_lines(&words, "behind").is_empty());
    assert_eq!(
        identifier_lines("let left_out = 1;\nleft_outs();", "left_out"),
        [1]
    );
}

#[test]
fn no_retired_word_is_left() {
    let paths = tracked();
    assert!(paths.len() > 300);
    let paths = paths.iter().filter(|path| is_ours(path));
    let problems: Vec<String> = paths.flat_map(|path| problems(path)).collect();
    let count = problems.len();
    assert!(
        problems.is_empty(),
        "{count} retired words:\n{}",
        problems.join("\n")
    );
}
