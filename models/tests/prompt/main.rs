//! Tokenizer and prompt: equal to the published ids, sane on hostile and malformed input.
#![allow(clippy::unwrap_used)]

mod conversation;
mod published;
mod sentencepiece;
mod tokenizer;
mod turns;
mod vocab_merges;

use std::fs;
use std::path::{Path, PathBuf};

use seeward_models::image::Extent;
use seeward_models::prompt::{PromptSettings, Prompter};
use seeward_models::tokenizer::Tokenizer;
use serde_json::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

const PAD: u32 = 760;

const CONTEXT: &str = "<IMG_CONTEXT>";

fn qwen2_folder() -> PathBuf {
    Path::new(GOLDEN).join("models/qwen2")
}

fn qwen2() -> Tokenizer {
    Tokenizer::open(&qwen2_folder()).unwrap()
}

fn hermes(literal_special_tokens: bool) -> Prompter {
    let settings = PromptSettings {
        template: "Hermes-2".parse().unwrap(),
        tokens_per_tile: 4,
        max_length: 4096,
        literal_special_tokens,
    };
    Prompter::new(qwen2(), settings).unwrap()
}

/// Images of these numbers of tiles.
fn tiles(counts: &[usize]) -> Vec<Extent> {
    counts.iter().map(|&count| Extent::Tiles(count)).collect()
}

fn error<T: std::fmt::Debug>(result: seeward_models::Result<T>) -> String {
    result.unwrap_err().to_string()
}

fn has_specials(text: &str) -> bool {
    const TOKENS: &str = "<|endoftext|> <|im_start|> <|im_end|> <img> </img> <IMG_CONTEXT> \
                          <quad> </quad> <ref> </ref> <box> </box>";
    TOKENS.split(' ').any(|token| text.contains(token))
}

/// A folder with the Qwen2 tokenizer.json after `change`.
fn tokenizer_json(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let text = fs::read(qwen2_folder().join("tokenizer.json")).unwrap();
    let mut json = serde_json::from_slice(&text).unwrap();
    change(&mut json);
    with_tokenizer(json.to_string().as_bytes())
}

fn with_tokenizer(bytes: &[u8]) -> tempfile::TempDir {
    folder_with(&[("tokenizer.json", bytes)])
}

fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}
