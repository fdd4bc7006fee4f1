//! Malformed vocab.json and merges.txt.

use std::collections::BTreeMap;
use std::fs;

use seeward_models::tokenizer::Tokenizer;

use crate::{error, folder_with, qwen2_folder};

/// The problem with Qwen2's files after `change`, without the folder's name.
fn problem(change: impl FnOnce(&mut BTreeMap<String, u32>, &mut String)) -> String {
    let read = |name: &str| fs::read(qwen2_folder().join(name)).unwrap();
    let mut vocabulary = serde_json::from_slice(&read("vocab.json")).unwrap();
    let mut merges = String::from_utf8(read("merges.txt")).unwrap();
    change(&mut vocabulary, &mut merges);
    let folder = folder_with(&[
        ("vocab.json", &serde_json::to_vec(&vocabulary).unwrap()),
        ("merges.txt", merges.as_bytes()),
    ]);
    let problem = error(Tokenizer::open(folder.path()));
    let rest = problem.strip_prefix(&format!("{}/", folder.path().display()));
    rest.unwrap_or_else(|| panic!("{problem}")).to_owned()
}

#[test]
fn a_vocabulary_has_no_holes() {
    assert_eq!(
        problem(|vocabulary, _| *vocabulary.get_mut("Ġthe").unwrap() = 5000),
        "vocab.json: expected the ids 0 to 759 of its 760 words, but none has id 275"
    );
    let lacks_a_byte = problem(|vocabulary, _| {
        let id = vocabulary.remove("Ā").unwrap();
        vocabulary.insert("another".into(), id);
    });
    assert_eq!(
        lacks_a_byte,
        "vocab.json: expected a word for each of the 256 bytes, but 'Ā' is missing"
    );
}

#[test]
fn merges_are_of_words_of_the_vocabulary() {
    let lines = |merges: &str| merges.lines().count() + 1;
    let with = |line: &'static str| {
        let mut number = 0;
        let problem = problem(|_, merges| {
            number = lines(merges);
            merges.push_str(line);
        });
        let rest = problem.strip_prefix(&format!("merges.txt:{number}: "));
        rest.unwrap_or_else(|| panic!("{problem}")).to_owned()
    };
    assert_eq!(with("a b c\n"), "expected two words, got 3");
    assert_eq!(
        with("q zzz\n"),
        "merge of \"q\" and \"zzz\": the vocabulary has no \"zzz\""
    );
    assert_eq!(
        with("q q\n"),
        "merge of \"q\" and \"q\": the vocabulary has no \"qq\""
    );
}

#[test]
fn a_vocabulary_alone_is_not_enough() {
    let vocabulary = fs::read(qwen2_folder().join("vocab.json")).unwrap();
    let folder = folder_with(&[("vocab.json", &vocabulary)]);
    let problem = error(Tokenizer::open(folder.path()));
    let expected = "merges.txt is missing next to vocab.json";
    assert!(problem.ends_with(expected), "{problem}");
}
