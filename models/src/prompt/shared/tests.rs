//! Conversations in two parts have the ids of whole ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::chat::Prompt;
use crate::prompt::{PromptSettings, Prompter, Template};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const PARENTS: [&str; 4] = ["models", "families", "bundles", "tokenize/tokenizers"];

/// Parts of hostile texts: tokens of all templates, beginnings of them, white space that they swallow, marks that join the
/// character before, and blanks of SentencePiece.
const PARTS: [&str; 32] = [
    "Why is it so?",
    "a",
    "0",
    "e",
    "é",
    "好",
    "가",
    "\u{11a8}",
    "\u{301}",
    "\u{338}",
    " ",
    "  ",
    "\n",
    "\u{a0}",
    "▁",
    "<",
    ">",
    "<|im_",
    "<|im_start|>",
    "<|im_end|>",
    "<|assistant|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "assistant\n",
    "<s>",
    "</s>",
    "<img>",
    "</img>",
    "<think>",
    "</think>\n",
    "<|vision_end|>",
    "<|endoftext|>",
];

/// The tokens that stand for images, which the prompt's texts refuse.
const CONTEXTS: [&str; 3] = ["<IMG_CONTEXT>", "<|image_pad|>", "<image>"];

/// The template whose answers have no token in their header.
const WITHOUT_SEAM: &str = "internvl_zh";

fn folders() -> Vec<PathBuf> {
    let parents = PARENTS.iter().map(|parent| Path::new(GOLDEN).join(parent));
    let children = parents.flat_map(|parent| fs::read_dir(parent).expect("a folder"));
    let children = children.map(|child| child.expect("an entry").path());
    let folders = children.map(|child| match child.join("model").is_dir() {
        true => child.join("model"),
        false => child,
    });
    let has_tokenizer = |folder: &PathBuf| folder.join("tokenizer_config.json").exists();
    folders.filter(has_tokenizer).collect()
}

/// All templates with this tokenizer that have their tokens there.
fn prompters(folder: &Path) -> Vec<Prompter> {
    let templates = Template::names().map(|name| name.parse::<Template>().expect("its name"));
    let ways = templates.flat_map(|template| {
        [(false, 4096), (true, 4096), (false, 24)]
            .map(|(literal, length)| (template, literal, length))
    });
    let prompter = |(template, literal, max_length): (Template, bool, usize)| {
        let settings = PromptSettings {
            template,
            tokens_per_tile: if template.markup().images.is_some() {
                3
            } else {
                0
            },
            max_length,
            literal_special_tokens: literal,
        };
        Prompter::new(template.tokenizer(folder).expect("a tokenizer"), settings).ok()
    };
    ways.filter_map(prompter).collect()
}

static PROMPTERS: LazyLock<Vec<Prompter>> = LazyLock::new(|| {
    folders()
        .iter()
        .flat_map(|folder| prompters(folder))
        .collect()
});

fn text(most: usize) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        40 => prop::sample::select(&PARTS[..]),
        1 => prop::sample::select(&CONTEXTS[..]),
    ];
    prop::collection::vec(part, 0..most).prop_map(|parts| parts.concat())
}

fn check(prompter: &Prompter, prompt: &Prompt, responses: &[String], images: &[Extent]) {
    let Ok(shared) = prompter.shared(prompt, images) else {
        return;
    };
    let whole = SharedPrompt {
        opening: None,
        ..prompter.shared(prompt, images).expect("valid again")
    };
    for response in responses {
        let [expected, got] = [&whole, &shared].map(|way| way.conversation(response));
        let settings = prompter.settings();
        let place = format!(
            "{settings:?} {:?} {prompt:?} {response:?}",
            prompter.tokenizer()
        );
        match (expected, got) {
            (Ok(expected), Ok(got)) => assert_eq!(got, expected, "{place}"),
            (Err(expected), Err(got)) => {
                assert_eq!(got.to_string(), expected.to_string(), "{place}");
            }
            (expected, got) => panic!("{place}: {expected:?} and {got:?}"),
        }
    }
}

#[test]
fn every_published_tokenizer_has_a_seam_and_shares_prompts() {
    let folders = folders();
    assert!(folders.len() > 15, "{folders:?}");
    for folder in folders {
        let prompters = prompters(&folder);
        assert!(!prompters.is_empty(), "{}", folder.display());
        for prompter in prompters {
            let images = match prompter.settings().tokens_per_tile {
                0 => &[][..],
                _ => &[Extent::Tiles(2)],
            };
            let settings = prompter.settings();
            let Ok(shared) = prompter.shared(&"Why?".into(), images) else {
                panic!("{settings:?}");
            };
            let place = format!("{} {settings:?}", folder.display());
            let Some(opening) = &shared.opening else {
                assert_eq!(settings.template.name(), WITHOUT_SEAM, "{place}");
                continue;
            };
            assert!(shared.joined(opening, "Because.").is_some(), "{place}");
        }
    }
}

proptest! {
    #![proptest_config(Config {
        cases: 4000,
        rng_seed: RngSeed::Fixed(0),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn a_shared_prompt_has_the_ids_and_errors_of_whole_conversations(
        which in any::<prop::sample::Index>(),
        prompt in text(12),
        responses in prop::collection::vec(text(10), 1..3),
        images in prop::collection::vec(1..3_usize, 0..3),
    ) {
        let prompter = which.get(&PROMPTERS[..]);
        let images: Vec<_> = images.into_iter().map(Extent::Tiles).collect();
        check(prompter, &prompt.into(), &responses, &images);
    }
}
