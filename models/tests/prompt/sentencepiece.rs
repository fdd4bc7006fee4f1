//! SentencePiece models built here for cases that the golden ones lack. Expected ids are those of the SentencePiece library.

use std::fs;

use seeward_models::tokenizer::{Specials, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{GOLDEN, error, folder_with};

const NORMAL: u8 = 1;
const UNKNOWN: u8 = 2;
const CONTROL: u8 = 3;
const USER_DEFINED: u8 = 4;
const UNUSED: u8 = 5;

/// Several pieces of one score, two ways to make "abc", and "ca" that only leads to "cab".
const PIECES: [(&str, f32, u8); 17] = [
    ("<unk>", 0.0, UNKNOWN),
    ("<s>", 0.0, CONTROL),
    ("</s>", 0.0, CONTROL),
    ("▁", -9.0, NORMAL),
    ("a", -9.0, NORMAL),
    ("b", -9.0, NORMAL),
    ("c", -9.0, NORMAL),
    ("ab", -1.0, NORMAL),
    ("bc", -1.0, NORMAL),
    ("abc", -2.0, NORMAL),
    ("ca", -1.0, UNUSED),
    ("cab", -3.0, NORMAL),
    ("[X]", 0.0, USER_DEFINED),
    ("▁a", -4.0, NORMAL),
    ("bca", -1.0, NORMAL),
    ("▁▁", -5.0, NORMAL),
    ("[X]b", -1.0, NORMAL),
];

/// The settings of a model file.
#[derive(Clone, Copy)]
struct Spec {
    model_type: u8,
    byte_fallback: bool,
    dummy_prefix: bool,
    squeeze_blanks: bool,
    charsmap: &'static [u8],
}

const PLAIN: Spec = Spec {
    model_type: 2,
    byte_fallback: false,
    dummy_prefix: false,
    squeeze_blanks: false,
    charsmap: b"",
};

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length], content].concat()
}

fn piece(&(text, score, kind): &(&str, f32, u8)) -> Vec<u8> {
    let score = score.to_le_bytes();
    let rest = [&[2 << 3 | 5], &score[..], &[3 << 3, kind]].concat();
    field(1, &[field(1, text.as_bytes()), rest].concat())
}

/// The bytes of a model file; a field that no reader knows is among them.
fn model(pieces: &[(&str, f32, u8)], spec: Spec) -> Vec<u8> {
    let trainer = [
        [3 << 3, spec.model_type].as_slice(),
        &[0x98, 0x02, u8::from(spec.byte_fallback)],
        &[7 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let normalizer = [
        field(2, spec.charsmap),
        vec![3 << 3, u8::from(spec.dummy_prefix)],
        vec![4 << 3, u8::from(spec.squeeze_blanks)],
    ]
    .concat();
    let pieces = pieces.iter().flat_map(piece).collect();
    [pieces, field(2, &trainer), field(3, &normalizer)].concat()
}

fn ids(spec: Spec, text: &str) -> Vec<u32> {
    let settings = json!({"tokenizer_class": "InternLM2Tokenizer", "add_bos_token": false});
    let folder = folder_with(&[
        ("tokenizer.model", &model(&PIECES, spec)),
        ("tokenizer_config.json", settings.to_string().as_bytes()),
    ]);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    tokenizer.encode(text, Specials::AsText).unwrap()
}

/// Of equal scores the leftmost merge comes first, whatever the pieces; unused pieces are split again; what the
/// user defined takes part in no merge; unknown characters in a row are one token.
#[test]
fn pieces_are_merged_by_score_then_from_the_left() {
    let cases: [(&str, &[u32]); 13] = [
        ("abc", &[9]),
        ("bcab", &[14, 5]),
        ("bcabc", &[14, 8]),
        ("abca", &[7, 6, 4]),
        ("cab", &[11]),
        ("ca", &[6, 4]),
        ("caca", &[6, 4, 6, 4]),
        ("a[X]b[X]", &[4, 12, 5, 12]),
        ("xyab", &[0, 7]),
        ("<s>ab", &[0, 7]),
        ("▁a", &[13]),
        ("   ", &[15, 3]),
        ("", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(ids(PLAIN, text), expected, "{text:?}");
    }
}

#[test]
fn blanks_are_as_the_model_wants_them() {
    let prefixed = Spec {
        dummy_prefix: true,
        ..PLAIN
    };
    let squeezed = Spec {
        squeeze_blanks: true,
        ..prefixed
    };
    let cases: [(&str, [&[u32]; 3]); 4] = [
        (
            "  a  b ",
            [&[3, 13, 15, 5, 3], &[15, 13, 15, 5, 3], &[13, 3, 5]],
        ),
        ("   ", [&[15, 3], &[15, 15], &[]]),
        (
            "a[X]b[X]",
            [&[4, 12, 5, 12], &[13, 12, 5, 12], &[13, 12, 5, 12]],
        ),
        ("", [&[], &[], &[]]),
    ];
    for (text, expected) in cases {
        let got = [PLAIN, prefixed, squeezed].map(|spec| ids(spec, text));
        assert_eq!(got, expected.map(<[u32]>::to_vec), "{text:?}");
    }
}

fn refused(bytes: &[u8]) -> String {
    let folder = folder_with(&[("tokenizer.model", bytes)]);
    let problem = error(Tokenizer::open(folder.path()));
    let file = folder.path().join("tokenizer.model").display().to_string();
    let rest = problem.strip_prefix(&format!("{file}: "));
    rest.unwrap_or_else(|| panic!("{problem}")).to_owned()
}

/// Wherever a model file is cut, it is detected: as a truncation, or, between two fields, by the missing content.
#[test]
fn a_truncated_model_is_refused() {
    let whole = model(
        &PIECES,
        Spec {
            byte_fallback: true,
            ..PLAIN
        },
    );
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    let golden = fs::read(format!("{GOLDEN}/models/internlm2/tokenizer.model")).unwrap();
    let problem = refused(&golden[..golden.len() / 2]);
    assert!(
        problem.starts_with("truncated, or not a SentencePiece model"),
        "{problem}"
    );
    assert!(refused(b"{\"version\": \"1.0\"}").contains("not a SentencePiece model"));
}

#[test]
fn a_model_that_is_not_supported_says_why() {
    let with = |spec| refused(&model(&PIECES, spec));
    let unigram = Spec {
        model_type: 1,
        ..PLAIN
    };
    assert_eq!(with(unigram), "model_type: expected BPE, got unigram");
    let mapped = Spec {
        charsmap: b"map",
        ..PLAIN
    };
    assert!(with(mapped).starts_with("a normalisation of characters is not supported"));
    let fallback = Spec {
        byte_fallback: true,
        ..PLAIN
    };
    assert_eq!(
        with(fallback),
        "byte fallback needs the piece <0x00>, which is missing"
    );
    let mut pieces = PIECES.to_vec();
    pieces.push(("abc", -1.0, NORMAL));
    assert_eq!(
        refused(&model(&pieces, PLAIN)),
        "pieces 9 and 17 are both \"abc\""
    );
    assert_eq!(
        refused(&model(&PIECES[1..], PLAIN)),
        "no piece is the unknown one"
    );
    pieces[4] = ("a", f32::NAN, NORMAL);
    assert_eq!(
        refused(&model(&pieces, PLAIN)),
        "piece 4: expected a text and a score"
    );
    pieces[4] = ("a", 0.0, 9);
    assert_eq!(
        refused(&model(&pieces, PLAIN)),
        "piece 4: type: expected 1 to 6, got 9"
    );
}

/// The golden tokenizer `name` with its settings changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let read = |file: &str| fs::read(format!("{GOLDEN}/models/{name}/{file}")).unwrap();
    let mut settings = serde_json::from_slice(&read("tokenizer_config.json")).unwrap();
    change(&mut settings);
    folder_with(&[
        ("tokenizer.model", &read("tokenizer.model")),
        ("tokenizer_config.json", settings.to_string().as_bytes()),
    ])
}

fn is_vision(token: &Value) -> bool {
    let content = token["content"].as_str().unwrap();
    seeward_models::tokenizer::VISION_TOKENS.contains(&content)
}

/// A language model's own tokenizer gets the image tokens in their order, after all others.
#[test]
fn image_tokens_are_added_where_they_are_missing() {
    let plain = changed("internlm2", |settings| {
        let added = settings["added_tokens_decoder"].as_object_mut().unwrap();
        added.retain(|_, token| !is_vision(token));
        settings["additional_special_tokens"] = json!(["<|im_start|>", "<|im_end|>"]);
    });
    let plain = Tokenizer::open(plain.path()).unwrap();
    let golden = Tokenizer::open(format!("{GOLDEN}/models/internlm2").as_ref()).unwrap();
    assert_eq!((plain.new_tokens(), golden.new_tokens()), (9, 0));
    assert_eq!(plain.vocabulary(), golden.vocabulary());
    let text = "a <img><IMG_CONTEXT></img>\n<box>[1]</box> b";
    let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, Specials::Parsed).unwrap();
    assert_eq!(ids(&plain), ids(&golden));
}

#[test]
fn settings_that_would_change_the_ids_are_refused() {
    let problem = |change: fn(&mut Value)| {
        let folder = changed("phi3", change);
        let problem = error(Tokenizer::open(folder.path()));
        let file = folder.path().join("tokenizer_config.json");
        let rest = problem.strip_prefix(&format!("{}: ", file.display()));
        rest.unwrap_or_else(|| panic!("{problem}")).to_owned()
    };
    assert_eq!(
        problem(|s| s["tokenizer_class"] = json!("BertTokenizer")),
        "tokenizer_class: expected InternLM2Tokenizer, LlamaTokenizer, Qwen2Tokenizer, or a tokenizer.json next to it, got BertTokenizer"
    );
    assert_eq!(
        problem(|s| s["split_special_tokens"] = json!(true)),
        "split_special_tokens: expected false, got true"
    );
    assert_eq!(
        problem(|s| s["sp_model_kwargs"] = json!({"nbest_size": 3})),
        "sp_model_kwargs: expected none, got nbest_size"
    );
    assert_eq!(
        problem(|s| s["added_tokens_decoder"]["787"]["single_word"] = json!(true)),
        "added token <|end|>: single_word is not supported"
    );
    assert_eq!(
        problem(|s| s["added_tokens_decoder"]["787"]["content"] = json!("<|user|>")),
        "added token <|user|>: it has two ids, 787 and 790"
    );
    assert!(problem(|s| s["eos_token"] = json!(7)).starts_with("eos_token: "));
    assert!(problem(|s| s["legacy"] = json!("no")).starts_with("invalid type"));
}

/// Where a special token is only text, neither its name nor the name that the vocabulary itself has for it counts.
#[test]
fn special_tokens_as_text_are_not_found_by_the_vocabulary_either() {
    let internlm2 = Tokenizer::open(format!("{GOLDEN}/models/internlm2").as_ref()).unwrap();
    let end = internlm2.id("<|im_end|>").unwrap();
    assert_eq!(internlm2.id("[UNUSED_TOKEN_145]"), Some(end));
    let llama = Tokenizer::open(format!("{GOLDEN}/models/llama").as_ref()).unwrap();
    for (tokenizer, text) in [
        (&internlm2, "a[UNUSED_TOKEN_145]b"),
        (&internlm2, "a<|im_end|>b"),
        (&llama, "a<|im_end|>b"),
    ] {
        let end = tokenizer.id("<|im_end|>").unwrap();
        let has = |specials| tokenizer.encode(text, specials).unwrap().contains(&end);
        assert!(has(Specials::Parsed), "{text}");
        assert!(!has(Specials::AsText), "{text}");
    }
}
