use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::config::Config;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
/// ChatML as most tokenizers have it.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A published text: what it prints is compared by the tests of turns.
#[derive(Deserialize)]
struct Published {
    sha256: Vec<String>,
    template: Template,
}

#[test]
fn every_published_text_names_its_template() {
    let file = Path::new(GOLDEN).join("conversations/chat_templates.json");
    let published: Vec<Published> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mut known: BTreeSet<&str> = TEMPLATES.iter().flat_map(|t| t.jinja).copied().collect();
    for text in &published {
        for hash in &text.sha256 {
            assert_eq!(Template::of_hash(hash), Some(text.template), "{hash}");
            known.remove(hash.as_str());
        }
    }
    assert_eq!(
        known,
        BTreeSet::new(),
        "hashes whose texts were not printed"
    );
    assert_eq!(Template::of_jinja("{{ messages }}"), None);
}

/// The template that a text model's folder with this file has.
fn found(name: &str, content: &str) -> Option<Template> {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(GOLDEN).join("families/qwen3_text/model");
    for file in fs::read_dir(golden).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    fs::write(folder.path().join(name), content).unwrap();
    Config::open(folder.path()).unwrap().template
}

#[test]
fn a_folder_is_known_by_its_chat_template_wherever_it_is() {
    let chatml = Some("chatml".parse().unwrap());
    let json = |text: &str| serde_json::json!({ "chat_template": text }).to_string();
    let escaped = CHATML.replace('\n', "\\n");
    for text in [CHATML, escaped.as_str(), &format!("\n{CHATML}\n")] {
        assert_eq!(found("chat_template.jinja", text), chatml, "{text}");
        for name in ["chat_template.json", "tokenizer_config.json"] {
            assert_eq!(found(name, &json(text)), chatml, "{name}: {text}");
        }
    }
    let other = CHATML.replace("role", "name");
    assert_eq!(found("chat_template.jinja", &other), None);
    assert_eq!(found("chat_template.json", &json(&other)), None);
}
