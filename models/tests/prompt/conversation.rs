//! The parts of a conversation: images, messages, the response's place, cuts.

use seeward_models::prompt::{Conversation, PromptSettings, Prompter, Template};
use seeward_models::tokenizer::{Specials, Tokenizer};
use seeward_models::{Error, Text};
use serde_json::json;

use crate::{CONTEXT, GOLDEN, error, hermes, qwen2, tiles, tokenizer_json};

const END: u32 = 762;

const RESPONSES: [&str; 5] = [
    "It is blue.",
    "好的",
    "  x",
    "e\u{301}t\u{e9}",
    "two\nlines\n",
];

/// After `response_start` come the response and its separator, token for token.
#[test]
fn the_response_begins_where_it_says() {
    for literal in [false, true] {
        let prompter = hermes(literal);
        for response in RESPONSES {
            let conversation = prompter
                .conversation(&"Why?".into(), response, &tiles(&[2]))
                .unwrap();
            let mut expected = prompter
                .tokenizer()
                .encode(response, Specials::AsText)
                .unwrap();
            expected.push(END);
            let start = conversation.response_start;
            assert_eq!(&conversation.ids[start..], expected, "{response:?}");
        }
    }
}

/// With SentencePiece too: the tokens before it are those of an empty response, except its last blank or newline, which may
/// share a token with the response.
#[test]
fn the_response_begins_where_it_says_with_every_tokenizer() {
    let models = [
        ("internlm2", "internlm2-chat"),
        ("internlm2_dyn", "internlm2-chat"),
        ("llama", "Hermes-2"),
        ("phi3", "phi3-chat"),
    ];
    for (model, template) in models {
        for literal in [false, true] {
            let settings = PromptSettings {
                template: template.parse().unwrap(),
                ..hermes(literal).settings().clone()
            };
            let tokenizer = Tokenizer::open(format!("{GOLDEN}/models/{model}").as_ref());
            let prompter = Prompter::new(tokenizer.unwrap(), settings).unwrap();
            let ids = |response| {
                prompter
                    .conversation(&"▁Why?".into(), response, &tiles(&[2]))
                    .unwrap()
            };
            let empty = ids("").ids;
            for response in RESPONSES {
                let Conversation {
                    ids,
                    response_start,
                    ..
                } = ids(response);
                let common = ids.iter().zip(&empty).take_while(|(a, b)| a == b).count();
                let place = format!("{model} {literal} {response:?}");
                assert!((common..=common + 1).contains(&response_start), "{place}");
                assert!(common + 1 >= empty.len(), "{place}");
                assert!(response_start < ids.len() - 1, "{place}");
            }
        }
    }
}

/// Where the header's newline and the response's become one token: a model that is given the header never writes it.
#[test]
fn a_token_shared_with_the_header_is_not_the_response() {
    let folder = tokenizer_json(|json| {
        let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.retain(|_, id| id.as_u64() != Some(759));
        vocabulary.insert("ĊĊ".into(), json!(759));
        *json["model"]["merges"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap() = json!("Ċ Ċ");
    });
    for literal in [false, true] {
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let prompter = Prompter::new(tokenizer, hermes(literal).settings().clone()).unwrap();
        let Conversation {
            ids,
            response_start,
            ..
        } = prompter
            .conversation(&"Why?".into(), "\nx", &tiles(&[1]))
            .unwrap();
        assert_eq!(ids[response_start - 1], 759);
        let end = prompter.tokenizer().encode("x<|im_end|>", Specials::Parsed);
        assert_eq!(&ids[response_start..], end.unwrap());
    }
}

#[test]
fn an_empty_or_cut_response_starts_at_the_end() {
    let empty = hermes(false)
        .conversation(&"Why?".into(), "", &tiles(&[1]))
        .unwrap();
    assert_eq!(empty.response_start, empty.ids.len());
    let settings = PromptSettings {
        max_length: empty.ids.len() - 2,
        ..hermes(false).settings().clone()
    };
    let prompter = Prompter::new(qwen2(), settings).unwrap();
    let cut = prompter
        .conversation(&"Why?".into(), "Because.", &tiles(&[1]))
        .unwrap();
    assert!(cut.truncated);
    assert_eq!(cut.ids, empty.ids[..empty.ids.len() - 2]);
    assert_eq!(cut.response_start, cut.ids.len());
}

#[test]
fn images_take_the_place_of_their_tags() {
    let prompter = hermes(false);
    let image = |tiles: usize| format!("<img>{}</img>", CONTEXT.repeat(4 * tiles));
    let user = |prompt: &str, counts: &[usize]| {
        let text = prompter
            .text(&prompt.into(), "r <image>", &tiles(counts))
            .unwrap();
        let (_, rest) = text.split_once("<|im_start|>user\n").unwrap();
        rest.strip_suffix("<|im_end|><|im_start|>assistant\nr <image><|im_end|>")
            .unwrap()
            .to_owned()
    };
    assert_eq!(user("none", &[]), "none");
    assert_eq!(user("one", &[3]), image(3) + "\none");
    assert_eq!(user("<image> x", &[1]), image(1) + "\n<image> x");
    assert_eq!(
        user("two", &[1, 2]),
        format!("{}\n{}\ntwo", image(1), image(2))
    );
    assert_eq!(
        user("a <image><image>b", &[2, 1]),
        format!("a {}{}b", image(2), image(1))
    );
    let conversation = prompter
        .conversation(&"a <image> b <image>".into(), "r", &tiles(&[2, 1]))
        .unwrap();
    assert_eq!(conversation.image_tokens.len(), 12);
}

#[test]
fn images_that_do_not_match_are_refused() {
    let prompter = hermes(false);
    let problem =
        |prompt: &str, counts: &[usize]| error(prompter.text(&prompt.into(), "r", &tiles(counts)));
    assert!(problem("<image>", &[]).contains("got 1 for 0 images"));
    assert!(problem("<image>", &[1, 1]).contains("got 1 for 2 images"));
    assert!(problem("<image><image><image>", &[1, 1]).contains("got 3 for 2 images"));
    assert!(problem("x", &[1, 0]).contains("image 2 has no tiles"));
    assert!(problem("x", &[usize::MAX, 2]).contains("max_length 4096 cuts the"));
}

#[test]
fn a_literal_placeholder_is_refused_where_it_stands() {
    let prompter = hermes(false);
    for counts in [&[][..], &[1], &[1, 2]] {
        let images = &tiles(counts);
        let problem = error(prompter.conversation(&"a <IMG_CONTEXT>".into(), "b", images));
        assert!(
            problem.starts_with("prompt: a literal <IMG_CONTEXT>"),
            "{problem}"
        );
        let problem = error(prompter.conversation(&"a".into(), "<IMG_CONTEXT>", images));
        assert!(
            problem.starts_with("response: a literal <IMG_CONTEXT>"),
            "{problem}"
        );
        assert!(
            hermes(true)
                .conversation(&"<IMG_CONTEXT>".into(), CONTEXT, images)
                .is_ok()
        );
    }
}

/// An empty message leaves only the role's header; only internlm2-chat strips, as Python does.
#[test]
fn templates_print_messages_as_published() {
    let blanks = "\u{1f}\u{a0}\u{3000}\u{85}\n";
    let text = |template, prompt: &str| {
        let settings = PromptSettings {
            template,
            ..hermes(false).settings().clone()
        };
        let prompter = Prompter::new(qwen2(), settings).unwrap();
        let text = prompter
            .text(&prompt.into(), &format!("\u{200b}x{blanks}"), &[])
            .unwrap();
        text.split_once("<|im_start|>user\n").unwrap().1.to_owned()
    };
    let header = "<|im_start|>assistant\n";
    assert_eq!(
        text("internlm2-chat".parse().unwrap(), blanks),
        format!("{header}\u{200b}x<|im_end|>")
    );
    assert_eq!(
        text("Hermes-2".parse().unwrap(), blanks),
        format!("{blanks}<|im_end|>{header}\u{200b}x{blanks}<|im_end|>")
    );
    assert_eq!(
        text("Hermes-2".parse().unwrap(), ""),
        format!("{header}\u{200b}x{blanks}<|im_end|>")
    );
}

/// The one template that breaks the line after every message.
#[test]
fn internvl_2_5_breaks_lines() {
    let settings = PromptSettings {
        template: "internvl2_5".parse().unwrap(),
        ..hermes(false).settings().clone()
    };
    let prompter = Prompter::new(qwen2(), settings).unwrap();
    let expected = "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位\
                    联合开发的多模态大语言模型。<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n x <|im_end|>\n";
    assert_eq!(prompter.text(&"Why?".into(), " x ", &[]).unwrap(), expected);
    let conversation = prompter.conversation(&"Why?".into(), " x ", &[]).unwrap();
    let response = prompter
        .tokenizer()
        .encode(" x <|im_end|>\n", Specials::Parsed);
    assert_eq!(
        &conversation.ids[conversation.response_start..],
        response.unwrap()
    );
}

#[test]
fn template_names_are_the_published_ones() {
    for name in [
        "Hermes-2",
        "internlm2-chat",
        "phi3-chat",
        "internvl_zh",
        "internvl2_5",
    ] {
        let template: Template = name.parse().unwrap();
        assert_eq!(template.to_string(), name);
        assert_eq!(serde_json::to_value(template).unwrap(), json!(name));
        let read: Template = serde_json::from_value(json!(name)).unwrap();
        assert_eq!(read, template);
    }
    let unknown = error("hermes-2".parse::<Template>());
    assert_eq!(
        unknown,
        "template: expected one of Hermes-2, internlm2-chat, phi3-chat, internvl_zh, internvl2_5, \
         internvl-hf, chatml, qwen2.5, qwen3, qwen2-vl, qwen3-vl, llama3, llama3.1, got \"hermes-2\""
    );
    assert!(serde_json::from_value::<Template>(json!("x")).is_err());
}

#[test]
fn settings_survive_json_and_refuse_unknown_keys() {
    let settings = hermes(true).settings().clone();
    let mut value = serde_json::to_value(&settings).unwrap();
    let read: PromptSettings = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(read, settings);
    value["max_lenght"] = json!(1);
    assert!(serde_json::from_value::<PromptSettings>(value).is_err());
}

#[test]
fn a_prompter_needs_sizes_and_the_tokens_of_its_template() {
    let settings = hermes(false).settings().clone();
    let with = |settings| error(Prompter::new(qwen2(), settings));
    let phi3 = with(PromptSettings {
        template: "phi3-chat".parse().unwrap(),
        ..settings.clone()
    });
    assert!(
        phi3.contains("template phi3-chat needs the token <|system|>"),
        "{phi3}"
    );
    let none = with(PromptSettings {
        max_length: 0,
        ..settings.clone()
    });
    assert_eq!(none, "max_length: expected at least 1, got 0");
}

/// The text that a text-only branch without a vision encoder reads, with or without images in its prompt.
#[test]
fn a_model_without_vision_reads_prompts_without_image_tags() {
    let settings = PromptSettings {
        tokens_per_tile: 0,
        ..hermes(false).settings().clone()
    };
    let prompter = Prompter::new(qwen2(), settings).unwrap();
    let plain = prompter
        .conversation(&"Why?".into(), "Because.", &[])
        .unwrap();
    assert_eq!(
        plain,
        hermes(false)
            .conversation(&"Why?".into(), "Because.", &[])
            .unwrap()
    );
    for prompt in ["<image>\nWhy?", "Wh<image>y<image>?"] {
        let tagged = prompter
            .conversation(&prompt.into(), "Because.", &[])
            .unwrap();
        assert_eq!(tagged, plain, "{prompt}");
    }
    let expected = "expected no images for a model without a vision encoder, got 1";
    assert_eq!(
        error(prompter.conversation(&"Why?".into(), "Because.", &tiles(&[1]))),
        expected
    );
}

/// `lstrip` and `rstrip` tokens (Phi3's chat tokens) swallow white space, of the user's text too, in both ways alike.
#[test]
fn stripping_tokens_swallow_white_space_in_both_ways() {
    let folder = tokenizer_json(|json| {
        json["added_tokens"][1]["rstrip"] = json!(true);
        json["added_tokens"][2]["rstrip"] = json!(true);
        json["added_tokens"][2]["lstrip"] = json!(true);
        json["added_tokens"][4]["rstrip"] = json!(true);
    });
    let ids = |literal: bool| {
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let prompter = Prompter::new(tokenizer, hermes(literal).settings().clone()).unwrap();
        prompter
            .conversation(&" \u{3000}Why? \n".into(), "  Because. ", &tiles(&[1]))
            .unwrap()
    };
    let plain = hermes(false)
        .conversation(&"Why?".into(), "  Because.", &tiles(&[1]))
        .unwrap();
    let newline_after_image = plain.image_tokens[3] + 2;
    let mut expected = plain.ids;
    expected.remove(newline_after_image);
    assert_eq!(ids(false).ids, expected);
    assert_eq!(ids(true), ids(false));
}

#[test]
fn callers_can_match_the_problem_of_a_conversation() {
    let prompter = hermes(false);
    let problem = |prompt: &str, response: &str, counts: &[usize]| {
        let result = prompter.conversation(&prompt.into(), response, &tiles(counts));
        result.unwrap_err()
    };
    assert!(matches!(
        problem("x", "y", &[1025]),
        Error::ImageTokensCut {
            needed: 4100,
            max_length: 4096
        }
    ));
    assert!(matches!(
        problem("<image> x", "y", &[1, 1]),
        Error::ImageTags { tags: 1, images: 2 }
    ));
    let in_response = problem("x", CONTEXT, &[1]);
    let text = Text::Response;
    assert!(matches!(in_response, Error::ContextToken { text: found, .. } if found == text));
}
