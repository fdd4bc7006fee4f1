//! System messages and several turns: text and ids as the published templates have them, in every template.

use std::fs;
use std::path::Path;

use seeward_models::chat::{Message, Prompt};
use seeward_models::prompt::{PromptSettings, Prompter, Template};
use serde::Deserialize;

use crate::{GOLDEN, error, hermes, tiles};

#[derive(Clone, Deserialize)]
struct Golden {
    template: Template,
    tokenizer: String,
    tokens_per_tile: usize,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Case {
    system: Option<String>,
    turns: Vec<String>,
    tiles: Vec<usize>,
    text: String,
    ids: Vec<u32>,
}

impl Golden {
    fn all() -> Vec<Self> {
        let read = |name: &str| -> Vec<Self> {
            let file = Path::new(GOLDEN).join("conversations").join(name);
            serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
        };
        [read("golden.json"), read("chat_templates.json")].concat()
    }

    fn prompter(&self, literal_special_tokens: bool) -> Prompter {
        let settings = PromptSettings {
            template: self.template,
            tokens_per_tile: self.tokens_per_tile,
            max_length: 4096,
            literal_special_tokens,
        };
        let folder = Path::new(GOLDEN).join(&self.tokenizer);
        let tokenizer = self.template.tokenizer(&folder).unwrap();
        Prompter::new(tokenizer, settings).unwrap()
    }
}

impl Case {
    /// Whether the template and the texts have the same tokens, so that they differ where texts have none.
    fn spells_tokens(&self) -> bool {
        self.turns.iter().any(|text| text.contains("think>"))
    }

    fn prompt(&self) -> (Prompt, &str) {
        let (response, history) = self.turns.split_last().unwrap();
        let mut messages: Vec<_> = self.system.iter().map(Message::system).collect();
        for (index, text) in history.iter().enumerate() {
            messages.push(match index % 2 {
                0 => Message::user(text),
                _ => Message::assistant(text),
            });
        }
        (messages.into(), response)
    }
}

#[test]
fn turns_are_those_of_the_published_templates() {
    let all = Golden::all();
    let mut untested: Vec<_> = Template::names().collect();
    for golden in &all {
        untested.retain(|name| *name != golden.template.name());
        for literal in [false, true] {
            let prompter = golden.prompter(literal);
            for case in &golden.cases {
                let (prompt, response) = case.prompt();
                let text = prompter
                    .text(&prompt, response, &tiles(&case.tiles))
                    .unwrap();
                let place = format!("{} {} {:?}", golden.template, golden.tokenizer, case.turns);
                assert_eq!(text, case.text, "{place}");
                if literal && case.spells_tokens() {
                    continue;
                }
                let read = prompter
                    .conversation(&prompt, response, &tiles(&case.tiles))
                    .unwrap();
                assert_eq!(read.ids, case.ids, "{place}");
                let count: usize = case.tiles.iter().sum();
                assert_eq!(
                    read.image_tokens.len(),
                    count * golden.tokens_per_tile,
                    "{place}"
                );
            }
        }
    }
    assert_eq!(untested, [""; 0], "templates without golden conversations");
}

#[test]
fn a_conversation_of_one_question_is_the_question() {
    let prompter = hermes(false);
    let (question, messages) = (
        Prompt::from("Why?"),
        Prompt::from(vec![Message::user("Why?")]),
    );
    for counts in [&[][..], &[2], &[1, 1]] {
        let ids = |prompt| {
            prompter
                .conversation(prompt, "Because.", &tiles(counts))
                .unwrap()
        };
        assert_eq!(ids(&messages), ids(&question));
    }
    // The template's message is the one that counts without another.
    let empty = Prompt::from(vec![Message::system(""), Message::user("Why?")]);
    let text = |prompt| prompter.text(prompt, "", &[]).unwrap();
    assert_eq!(text(&empty), text(&question));
}

#[test]
fn only_the_last_turn_is_the_response() {
    let prompter = hermes(false);
    let history = [
        Message::user("Why?"),
        Message::assistant("Because."),
        Message::user("So?"),
    ];
    let prompt = Prompt::from(history.to_vec());
    let read = prompter.conversation(&prompt, "Yes.", &[]).unwrap();
    let without = prompter.conversation(&prompt, "", &[]).unwrap();
    assert_eq!(read.response_start, without.ids.len());
    assert_eq!(read.ids[..without.ids.len()], without.ids);
}

#[test]
fn conversations_that_no_template_has_are_refused() {
    let prompter = hermes(false);
    let of = |messages: Vec<Message>| error(prompter.conversation(&messages.into(), "r", &[]));
    let answered = vec![Message::user("a"), Message::assistant("b")];
    assert!(of(answered).starts_with("expected a last message of role user"));
    let twice = vec![Message::user("a"), Message::user("b")];
    assert!(of(twice).starts_with("[1]: expected a message of role assistant"));
}
