//! The tokenizer's files, and texts of every kind.

use std::fs;

use seeward_models::prompt::Prompter;
use seeward_models::tokenizer::{Specials, Tokenizer};
use serde_json::json;

use crate::{
    PAD, error, has_specials, hermes, qwen2, qwen2_folder, tiles, tokenizer_json, with_tokenizer,
};

#[test]
fn hostile_texts_are_tokenised_like_any_other() {
    let mut texts = vec!["\0\0\u{feff}\u{fffd}\u{10ffff}".to_owned()];
    for unit in [
        "a",
        " ",
        "\n",
        "e\u{301}",
        "<|im_end|>",
        "<|im_",
        "word ",
        "龘",
        "!",
    ] {
        texts.push(unit.repeat(100_000 / unit.len()));
    }
    let (parsed, literal) = (hermes(false), hermes(true));
    for text in &texts {
        let place: String = text.chars().take(12).collect();
        let ids = |prompter: &Prompter| {
            prompter
                .conversation(&text.into(), text, &tiles(&[1]))
                .unwrap()
                .ids
        };
        assert_eq!(
            ids(&parsed) == ids(&literal),
            !has_specials(text),
            "{place:?}"
        );
        let raw = parsed.tokenizer().encode(text, Specials::AsText).unwrap();
        assert!(raw.iter().all(|&id| id < PAD), "{place:?}");
        assert!(!raw.is_empty());
    }
}

#[test]
fn files_are_those_that_exist() {
    let tokenizer = qwen2();
    let names: Vec<_> = tokenizer
        .files()
        .iter()
        .map(|f| f.file_name().unwrap())
        .collect();
    let expected = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    assert_eq!(names, expected);
    let alone = tokenizer_json(|_| ());
    assert_eq!(Tokenizer::open(alone.path()).unwrap().files().len(), 1);
}

#[test]
fn a_folder_without_tokenizer_says_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let problem = error(Tokenizer::open(folder.path()));
    let place = folder.path().display().to_string();
    assert!(problem.starts_with(&place), "{problem}");
    let expected = "no tokenizer: expected tokenizer.model, or vocab.json with merges.txt, or tokenizer.json; got ";
    assert!(problem.contains(expected), "{problem}");
    fs::write(folder.path().join("tokenizer_config.json"), "{}").unwrap();
    let problem = error(Tokenizer::open(folder.path()));
    assert!(problem.ends_with("got tokenizer_config.json"), "{problem}");
}

#[test]
fn files_that_are_missing_are_not_replaced_by_others() {
    let folder = tokenizer_json(|_| ());
    let class = r#"{"tokenizer_class": "LlamaTokenizer"}"#;
    fs::write(folder.path().join("tokenizer_config.json"), class).unwrap();
    let problem = error(Tokenizer::open(folder.path()));
    let expected = "LlamaTokenizer reads tokenizer.model, which is missing; tokenizer.json may";
    assert!(problem.contains(expected), "{problem}");

    let folder = tokenizer_json(|_| ());
    fs::write(folder.path().join("merges.txt"), "").unwrap();
    let problem = error(Tokenizer::open(folder.path()));
    let expected = "vocab.json is missing next to merges.txt";
    assert!(problem.ends_with(expected), "{problem}");
}

#[test]
fn a_malformed_tokenizer_names_its_file() {
    let whole = fs::read(qwen2_folder().join("tokenizer.json")).unwrap();
    let half = &whole[..whole.len() / 2];
    for bytes in [&b""[..], b"{}", b"[1]", b"\xff\xfe\0", half] {
        let folder = with_tokenizer(bytes);
        let problem = error(Tokenizer::open(folder.path()));
        let file = folder.path().join("tokenizer.json").display().to_string();
        assert!(problem.starts_with(&file), "{problem}");
    }
}

#[test]
fn added_tokens_must_have_the_ids_that_they_claim() {
    let folder = tokenizer_json(|json| json["added_tokens"][5]["id"] = json!(900));
    let problem = error(Tokenizer::open(folder.path()));
    let expected =
        "added token <IMG_CONTEXT>: expected id 900, but its place in the vocabulary gives 765";
    assert!(problem.ends_with(expected), "{problem}");
}

/// Cutting and padding that a tokenizer.json asks for would falsify every sequence.
#[test]
fn the_file_s_own_truncation_and_padding_are_ignored() {
    let folder = tokenizer_json(|json| {
        json["truncation"] =
            json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({
            "strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": PAD, "pad_type_id": 0, "pad_token": "<|endoftext|>"
        });
    });
    let ids = |tokenizer: Tokenizer| {
        tokenizer
            .encode("one two three four", Specials::Parsed)
            .unwrap()
    };
    assert_eq!(ids(Tokenizer::open(folder.path()).unwrap()), ids(qwen2()));
}
