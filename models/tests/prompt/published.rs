//! Equal to the published implementation, token for token, on both golden sets.

use std::fs;
use std::path::Path;

use seeward_models::prompt::{Conversation, PromptSettings, Prompter, Template};
use seeward_models::tokenizer::Specials;
use serde::Deserialize;

use crate::{CONTEXT, GOLDEN, PAD, has_specials, qwen2};

const SETS: [&str; 2] = ["Hermes-2__qwen2", "internlm2-chat__qwen2"];

#[derive(Deserialize)]
struct Golden {
    template: Template,
    pad_token_id: u32,
    vocab_len: usize,
    cases: Vec<Case>,
    #[serde(default)]
    raw: Vec<Raw>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    response: String,
    num_tiles: usize,
    num_image_token: usize,
    max_length: usize,
    conversation: String,
    input_ids: Vec<u32>,
    truncated: bool,
    pooled_index: usize,
}

#[derive(Deserialize)]
struct Raw {
    text: String,
    input_ids: Vec<u32>,
}

impl Case {
    fn literal_context(&self) -> bool {
        self.prompt.contains(CONTEXT) || self.response.contains(CONTEXT)
    }

    fn needed(&self) -> usize {
        self.num_tiles * self.num_image_token
    }

    fn ids_in(&self, id: u32) -> usize {
        self.input_ids.iter().filter(|&&i| i == id).count()
    }

    fn cuts_images(&self) -> bool {
        self.ids_in(765) < self.needed()
    }

    fn prompter(&self, template: Template, literal: bool) -> Prompter {
        let settings = PromptSettings {
            template,
            tokens_per_tile: self.num_image_token,
            max_length: self.max_length,
            literal_special_tokens: literal,
        };
        Prompter::new(qwen2(), settings).unwrap()
    }

    fn conversation(&self, prompter: &Prompter) -> seeward_models::Result<Conversation> {
        prompter.conversation(&self.prompt, &self.response, &[self.num_tiles])
    }
}

fn golden(set: &str) -> Golden {
    let file = Path::new(GOLDEN)
        .join("tokenize")
        .join(set)
        .join("golden.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Every case of both sets: the string, the ids, and which ones are refused instead.
#[test]
fn conversations_equal_the_published_ones() {
    for set in SETS {
        let golden = golden(set);
        assert_eq!(golden.cases.len(), 48);
        let mut refused = 0;
        for (i, case) in golden.cases.iter().enumerate() {
            refused += usize::from(check_case(case, golden.template, &format!("{set} {i}")));
        }
        // Three with a literal placeholder, three cut before the end of their image tokens.
        assert_eq!(refused, 6, "{set}");
    }
}

fn check_case(case: &Case, template: Template, place: &str) -> bool {
    let prompter = case.prompter(template, false);
    let mut ids = prompter
        .tokenizer()
        .encode(&case.conversation, Specials::Parsed)
        .unwrap();
    ids.truncate(case.max_length);
    assert_eq!(ids, case.input_ids, "{place}: ids of the string");
    match case.conversation(&prompter) {
        Ok(conversation) => {
            check_accepted(case, &prompter, &conversation, place);
            false
        }
        Err(error) => {
            let error = error.to_string();
            let literal = error.contains("a literal <IMG_CONTEXT>");
            assert_eq!(literal, case.literal_context(), "{place}: {error}");
            let cut = error.contains("cuts the");
            assert_eq!(cut, case.cuts_images(), "{place}: {error}");
            assert!(literal || cut, "{place}: {error}");
            true
        }
    }
}

fn check_accepted(case: &Case, prompter: &Prompter, conversation: &Conversation, place: &str) {
    assert!(!case.literal_context() && !case.cuts_images(), "{place}");
    let text = prompter.text(&case.prompt, &case.response, &[case.num_tiles]);
    assert_eq!(text.unwrap(), case.conversation, "{place}");
    assert_eq!(conversation.ids, case.input_ids, "{place}");
    assert_eq!(conversation.truncated, case.truncated, "{place}");
    assert_eq!(conversation.image_tokens.len(), case.needed(), "{place}");
    let at = &conversation.image_tokens;
    assert!(at.windows(2).all(|w| w[1] == w[0] + 1), "{place}");
    assert!(at.iter().all(|&i| conversation.ids[i] == 765), "{place}");
}

/// The published code reads the reward before the first padding token, even one that the text spells out. Ours is read
/// at the last token: exactly the conversations that contain a padding token differ.
#[test]
fn pooled_token_is_the_last_one_unless_the_text_contains_padding() {
    for set in SETS {
        let golden = golden(set);
        assert_eq!(golden.pad_token_id, PAD);
        for case in &golden.cases {
            let first_pad = case.input_ids.iter().position(|&id| id == PAD);
            let published = first_pad.unwrap_or(case.input_ids.len()) - 1;
            assert_eq!(case.pooled_index, published);
        }
        let deviating = golden.cases.iter().filter(|c| c.ids_in(PAD) > 0);
        assert_eq!(deviating.count(), 1, "{set}");
    }
}

#[test]
fn raw_texts_equal_the_published_ones() {
    let tokenizer = qwen2();
    let golden = golden("Hermes-2__qwen2");
    assert_eq!(golden.raw.len(), 144);
    assert_eq!(tokenizer.vocabulary(), golden.vocab_len);
    for raw in &golden.raw {
        let ids = tokenizer.encode(&raw.text, Specials::Parsed).unwrap();
        assert_eq!(ids, raw.input_ids, "{:?}", raw.text);
    }
}

/// Without special tokens in the texts the two ways agree; with them, the literal way has the template's alone.
#[test]
fn literal_special_tokens_change_only_texts_that_have_some() {
    for set in SETS {
        let golden = golden(set);
        for case in golden.cases.iter().filter(|case| !case.truncated) {
            let literal = case.conversation(&case.prompter(golden.template, true));
            let literal = literal.unwrap();
            if has_specials(&case.prompt) || has_specials(&case.response) {
                assert_ne!(literal.ids, case.input_ids, "{:?}", case.prompt);
            } else {
                let parsed = case.conversation(&case.prompter(golden.template, false));
                assert_eq!(literal, parsed.unwrap());
            }
            let closed = case.conversation.ends_with("<|im_end|>");
            let of_template = 3 + 2 + usize::from(closed) + 2 + case.needed();
            let specials = literal.ids.iter().filter(|&&id| id >= PAD);
            assert_eq!(specials.count(), of_template, "{:?}", case.prompt);
        }
    }
}

#[test]
fn literal_special_tokens_agree_on_raw_texts() {
    let tokenizer = qwen2();
    for raw in &golden("Hermes-2__qwen2").raw {
        let ids = tokenizer.encode(&raw.text, Specials::AsText).unwrap();
        assert!(ids.iter().all(|&id| id < PAD), "{:?}", raw.text);
        if !has_specials(&raw.text) {
            assert_eq!(ids, raw.input_ids, "{:?}", raw.text);
        }
    }
}
