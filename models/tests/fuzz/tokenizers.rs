//! Tokenizer files: one of a folder's is damaged, the others are unchanged.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use seeward_models::tokenizer::{Specials, Tokenizer};

use crate::damage::damaged;
use crate::{check_message, fuzz, golden};

const TEXT: &str =
    "<|im_start|>user\n<img><IMG_CONTEXT></img>\nWhat's in image 12? é漢\u{1F600}<|im_end|>\n";

/// The tokenizer's files in `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let tokenizer = Tokenizer::open(folder).unwrap();
    tokenizer.files().to_vec()
}

fn damaged_file(folder: &Path, name: &str) {
    let copy = tempfile::tempdir().unwrap();
    for file in files(folder) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    if name == "tokenizer.json" {
        let fast = r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#;
        fs::write(copy.path().join("tokenizer_config.json"), fast).unwrap();
    }
    let target = copy.path().join(name);
    let sound = fs::read(folder.join(name)).unwrap();
    fs::write(&target, &sound).unwrap();
    Tokenizer::open(copy.path()).unwrap();
    fuzz(30, damaged(vec![sound]), |bytes| {
        fs::write(&target, &bytes).unwrap();
        if let Some(tokenizer) = check_message(Tokenizer::open(copy.path()))? {
            for specials in [Specials::Parsed, Specials::AsText] {
                if let Some(ids) = check_message(tokenizer.encode(TEXT, specials))? {
                    let rows = tokenizer.vocabulary();
                    prop_assert!(ids.iter().all(|&id| (id as usize) < rows));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn damaged_vocabularies_are_read_or_refused() {
    for name in [
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "tokenizer_config.json",
    ] {
        damaged_file(&golden("models/qwen2"), name);
    }
}

#[test]
fn damaged_tokenizer_json_is_read_or_refused() {
    for model in ["models/qwen2", "models/llama"] {
        damaged_file(&golden(model), "tokenizer.json");
    }
}

#[test]
fn damaged_sentencepiece_models_are_read_or_refused() {
    for model in ["models/internlm2", "models/phi3"] {
        for name in [
            "tokenizer.model",
            "added_tokens.json",
            "special_tokens_map.json",
        ] {
            damaged_file(&golden(model), name);
        }
    }
}
