//! Equal to the published implementation (the slow Python tokenizers), token for token, on every golden set.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use seeward_models::hash::hash;
use seeward_models::prompt::{Conversation, PromptSettings, Prompter, Template};
use seeward_models::tokenizer::{Specials, Tokenizer};
use serde::Deserialize;
use serde_json::Value;

use crate::{CONTEXT, GOLDEN, tiles};

/// Template and tokenizer, and how many conversations are refused: three have a literal placeholder, the others are cut
/// before the end of their image tokens.
const SETS: [(&str, usize); 7] = [
    ("Hermes-2__llama", 5),
    ("Hermes-2__qwen2", 6),
    ("internlm2-chat__internlm2", 5),
    ("internlm2-chat__internlm2_dyn", 5),
    ("internlm2-chat__qwen2", 6),
    ("internvl_zh__llama_zh", 4),
    ("phi3-chat__phi3", 5),
];

#[derive(Deserialize)]
struct Golden {
    template: Template,
    tokenizer: String,
    special_ids: HashMap<String, u32>,
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

impl Golden {
    fn read(set: &str) -> Self {
        let file = Path::new(GOLDEN)
            .join("tokenize")
            .join(set)
            .join("golden.json");
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::open(&Path::new(GOLDEN).join(&self.tokenizer)).unwrap()
    }

    fn prompter(&self, case: &Case, literal: bool) -> Prompter {
        let settings = PromptSettings {
            template: self.template,
            tokens_per_tile: case.num_image_token,
            max_length: case.max_length,
            literal_special_tokens: literal,
        };
        Prompter::new(self.tokenizer(), settings).unwrap()
    }

    fn cuts_images(&self, case: &Case) -> bool {
        count(&case.input_ids, self.special_ids[CONTEXT]) < case.needed()
    }

    /// Every token that stays whole, as tokenizer_config.json has them, and the names that InternLM2's vocabulary itself
    /// has for some.
    fn added(&self) -> HashMap<String, u32> {
        let file = Path::new(GOLDEN)
            .join(&self.tokenizer)
            .join("tokenizer_config.json");
        let config: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let added = config["added_tokens_decoder"].as_object().unwrap();
        let named = added.iter().map(|(id, token)| {
            let content = token["content"].as_str().unwrap();
            (content.to_owned(), id.parse().unwrap())
        });
        let mut added: HashMap<_, _> = named.collect();
        let tokenizer = self.tokenizer();
        let unused = (141..=146).map(|n| format!("[UNUSED_TOKEN_{n}]"));
        added.extend(unused.filter_map(|name| tokenizer.id(&name).map(|id| (name, id))));
        added
    }
}

impl Case {
    fn literal_context(&self) -> bool {
        self.prompt.contains(CONTEXT) || self.response.contains(CONTEXT)
    }

    fn needed(&self) -> usize {
        self.num_tiles * self.num_image_token
    }

    fn conversation(&self, prompter: &Prompter) -> seeward_models::Result<Conversation> {
        prompter.conversation(
            &self.prompt.as_str().into(),
            &self.response,
            &tiles(&[self.num_tiles]),
        )
    }
}

fn count(ids: &[u32], id: u32) -> usize {
    ids.iter().filter(|&&i| i == id).count()
}

/// Every case of every set: the string, the ids, and which ones are refused instead.
#[test]
fn conversations_equal_the_published_ones() {
    for (set, refused) in SETS {
        let golden = Golden::read(set);
        assert_eq!(golden.cases.len(), 48);
        let mut got = 0;
        for (i, case) in golden.cases.iter().enumerate() {
            got += usize::from(check_case(&golden, case, &format!("{set} {i}")));
        }
        assert_eq!(got, refused, "{set}");
    }
}

fn check_case(golden: &Golden, case: &Case, place: &str) -> bool {
    let prompter = golden.prompter(case, false);
    let mut ids = prompter
        .tokenizer()
        .encode(&case.conversation, Specials::Parsed)
        .unwrap();
    ids.truncate(case.max_length);
    assert_eq!(ids, case.input_ids, "{place}: ids of the string");
    match case.conversation(&prompter) {
        Ok(conversation) => {
            assert!(!golden.cuts_images(case), "{place}");
            check_accepted(golden, case, &prompter, &conversation, place);
            false
        }
        Err(error) => {
            let error = error.to_string();
            let literal = error.contains("a literal <IMG_CONTEXT>");
            assert_eq!(literal, case.literal_context(), "{place}: {error}");
            let cut = error.contains("cuts the");
            assert_eq!(cut, golden.cuts_images(case), "{place}: {error}");
            assert!(literal || cut, "{place}: {error}");
            true
        }
    }
}

fn check_accepted(
    golden: &Golden,
    case: &Case,
    prompter: &Prompter,
    conversation: &Conversation,
    place: &str,
) {
    assert!(!case.literal_context(), "{place}");
    let text = prompter.text(
        &case.prompt.as_str().into(),
        &case.response,
        &tiles(&[case.num_tiles]),
    );
    assert_eq!(text.unwrap(), case.conversation, "{place}");
    assert_eq!(conversation.ids, case.input_ids, "{place}");
    assert_eq!(conversation.truncated, case.truncated, "{place}");
    assert_eq!(conversation.image_tokens.len(), case.needed(), "{place}");
    let context = golden.special_ids[CONTEXT];
    let at = &conversation.image_tokens;
    assert!(at.windows(2).all(|w| w[1] == w[0] + 1), "{place}");
    assert!(
        at.iter().all(|&i| conversation.ids[i] == context),
        "{place}"
    );
}

/// The published code reads the reward before the first padding token, even one that the text spells out. Ours is read
/// at the last token: exactly the conversations that contain a padding token differ.
#[test]
fn pooled_token_is_the_last_one_unless_the_text_contains_padding() {
    for (set, _) in SETS {
        let golden = Golden::read(set);
        let pad = golden.pad_token_id;
        for case in &golden.cases {
            let first_pad = case.input_ids.iter().position(|&id| id == pad);
            let published = first_pad.unwrap_or(case.input_ids.len()) - 1;
            assert_eq!(case.pooled_index, published);
        }
        let deviating = golden.cases.iter().filter(|c| c.input_ids.contains(&pad));
        assert_eq!(deviating.count(), 1, "{set}");
    }
}

#[test]
fn raw_texts_equal_the_published_ones() {
    for (set, _) in SETS {
        let golden = Golden::read(set);
        let tokenizer = golden.tokenizer();
        assert_eq!(tokenizer.vocabulary(), golden.vocab_len, "{set}");
        assert_eq!(tokenizer.new_tokens(), 0, "{set}");
        for raw in &golden.raw {
            let ids = tokenizer.encode(&raw.text, Specials::Parsed).unwrap();
            assert_eq!(ids, raw.input_ids, "{set}: {:?}", raw.text);
        }
    }
}

/// Where `files` are copied, the same ids come out: that is how checkpoints and bundles carry a tokenizer.
#[test]
fn its_files_carry_the_tokenizer() {
    for (set, _) in SETS {
        let golden = Golden::read(set);
        let tokenizer = golden.tokenizer();
        let folder = tempfile::tempdir().unwrap();
        for file in tokenizer.files() {
            fs::copy(file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        let copy = Tokenizer::open(folder.path()).unwrap();
        for case in &golden.cases {
            let ids = |tokenizer: &Tokenizer| {
                tokenizer
                    .encode(&case.conversation, Specials::Parsed)
                    .unwrap()
            };
            assert_eq!(ids(&copy), ids(&tokenizer), "{set}");
        }
    }
}

/// A response of 100 kB and its conversation's tokens: their number, and the sha256 of the ids as little-endian u32.
#[derive(Deserialize)]
struct Long {
    unit: String,
    tokens: usize,
    sha256: String,
}

#[derive(Deserialize)]
struct LongSet {
    prompt: String,
    num_tiles: usize,
    num_image_token: usize,
    responses: Vec<Long>,
}

/// Hostile ones too: one word or run of blanks without end, half a special token, control characters, and many of each
/// template's own. Comparing every piece with every other would take 10^10 steps.
#[test]
fn responses_of_100_kb_equal_the_published_ones() {
    let file = Path::new(GOLDEN).join("tokenize/long.json");
    let mut long: HashMap<String, LongSet> =
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for (set, _) in SETS {
        let (golden, long) = (Golden::read(set), long.remove(set).unwrap());
        assert!(long.responses.len() >= 12, "{set}");
        let settings = PromptSettings {
            template: golden.template,
            tokens_per_tile: long.num_image_token,
            max_length: 1 << 20,
            literal_special_tokens: false,
        };
        let prompter = Prompter::new(golden.tokenizer(), settings).unwrap();
        for Long {
            unit,
            tokens,
            sha256,
        } in long.responses
        {
            let response = unit.repeat(100_000 / unit.len());
            let conversation = prompter.conversation(
                &long.prompt.as_str().into(),
                &response,
                &tiles(&[long.num_tiles]),
            );
            let ids = conversation.unwrap().ids;
            assert_eq!(ids.len(), tokens, "{set}: {unit:?}");
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(hash(&bytes), sha256, "{set}: {unit:?}");
        }
    }
    assert!(long.is_empty());
}

/// Without special tokens in the texts the two ways agree; with them, the literal way has the template's alone.
#[test]
fn literal_special_tokens_change_only_texts_that_have_some() {
    for (set, _) in SETS {
        let golden = Golden::read(set);
        let added = golden.added();
        let mentions = |text: &str| -> usize {
            let mentions = added
                .keys()
                .map(|token| text.matches(token.as_str()).count());
            mentions.sum()
        };
        for case in golden.cases.iter().filter(|case| !case.truncated) {
            let literal = case.conversation(&golden.prompter(case, true)).unwrap();
            let of_user = mentions(&case.prompt) + mentions(&case.response);
            if of_user > 0 {
                assert_ne!(literal.ids, case.input_ids, "{set}: {:?}", case.prompt);
            } else {
                let parsed = case.conversation(&golden.prompter(case, false));
                assert_eq!(literal, parsed.unwrap());
            }
            let bos = usize::from(case.input_ids[0] == 1);
            let of_template = mentions(&case.conversation) - of_user + bos;
            let specials = literal
                .ids
                .iter()
                .filter(|id| added.values().any(|a| a == *id));
            assert_eq!(specials.count(), of_template, "{set}: {:?}", case.prompt);
        }
    }
}

#[test]
fn literal_special_tokens_agree_on_raw_texts() {
    for (set, _) in SETS {
        let golden = Golden::read(set);
        let (tokenizer, added) = (golden.tokenizer(), golden.added());
        for raw in &golden.raw {
            let ids = tokenizer.encode(&raw.text, Specials::AsText).unwrap();
            let bos = usize::from(ids.first() == Some(&1));
            let special = |id: &u32| added.values().any(|a| a == id);
            assert!(!ids[bos..].iter().any(special), "{set}: {:?}", raw.text);
            if !added.keys().any(|token| raw.text.contains(token)) {
                assert_eq!(ids, raw.input_ids, "{set}: {:?}", raw.text);
            }
        }
    }
}
