//! A tokenizer's settings: tokenizer_config.json, or, if that does not list the added tokens, the older
//! special_tokens_map.json and added_tokens.json, by the rules of transformers 4 for its slow tokenizers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::files::read_file;
use crate::{Error, Result};

/// The roles of special tokens, in transformers' order.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
const ADDITIONAL: &str = "additional_special_tokens";

/// A token that stays whole wherever a text has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct AddedToken {
    pub(super) content: String,
    /// It swallows the white space before it.
    #[serde(default)]
    pub(super) lstrip: bool,
    /// It swallows the white space after it.
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

impl AddedToken {
    pub(super) fn plain(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            ..Self::default()
        }
    }
}

/// A token with a role: its content, or all about it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Content(String),
    Token(AddedToken),
}

impl From<Named> for AddedToken {
    fn from(named: Named) -> Self {
        match named {
            Named::Content(content) => Self::plain(&content),
            Named::Token(token) => token,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    tokenizer_class: Option<String>,
    added_tokens_decoder: Option<BTreeMap<u32, AddedToken>>,
    legacy: Option<bool>,
    add_bos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    split_special_tokens: Option<bool>,
    sp_model_kwargs: Option<Map<String, Value>>,
}

/// The added tokens of a tokenizer.json.
#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    added_tokens: Vec<JsonToken>,
}

#[derive(Deserialize)]
struct JsonToken {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

/// The settings of the tokenizer in one folder.
pub(super) struct Settings {
    file: PathBuf,
    config: Config,
    /// The tokens with a role, by its key.
    roles: Map<String, Value>,
    added: BTreeMap<u32, AddedToken>,
}

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer_config.json");
        let mut config: Config = read_json(&file)?.unwrap_or_default();
        let mut roles: Map<String, Value> = read_json(&file)?.unwrap_or_default();
        let added = match config.added_tokens_decoder.take() {
            Some(added) => added,
            None => {
                roles.extend(older_roles(folder, &roles)?);
                older_added(folder)?
            }
        };
        Ok(Self {
            file,
            config,
            roles,
            added,
        })
    }

    /// The name of the Python class.
    pub(super) fn class(&self) -> Option<&str> {
        self.config.tokenizer_class.as_deref()
    }

    /// The tokens that stay whole, by id.
    pub(super) fn added(&self) -> &BTreeMap<u32, AddedToken> {
        &self.added
    }

    /// The contents of all tokens that stay whole or have a role.
    pub(super) fn special_tokens(&self) -> impl Iterator<Item = &str> {
        let named = self.roles.values().flat_map(|value| match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        });
        let added = self.added.values().map(|token| token.content.as_str());
        added.chain(named.filter_map(|value| match value {
            Value::String(content) => Some(content.as_str()),
            token => token.get("content").and_then(Value::as_str),
        }))
    }

    /// Whether every text between added tokens is a separate SentencePiece input (Llama's rule before `legacy` became
    /// a setting, and InternLM2's).
    pub(super) fn is_legacy(&self) -> bool {
        self.class() == Some("InternLM2Tokenizer") || self.config.legacy.unwrap_or(true)
    }

    /// Whether a blank is put before a text.
    pub(super) fn adds_prefix_space(&self) -> bool {
        self.config.add_prefix_space.unwrap_or(true)
    }

    /// Whether every sequence begins with the bos token, where the tokenizer's own default is `default`. The published
    /// code never lets the eos token be added.
    pub(super) fn adds_bos(&self, default: bool) -> bool {
        self.config.add_bos_token.unwrap_or(default)
    }

    /// The tokens that have a role, in transformers' order; `defaults` are those of a key that is absent.
    pub(super) fn special(&self, defaults: &[(&str, &str)]) -> Result<Vec<AddedToken>> {
        let with_role = ROLES.iter().map(|role| self.role(role, defaults));
        let with_role: Vec<_> = with_role.collect::<Result<_>>()?;
        let mut tokens: Vec<_> = with_role.into_iter().flatten().collect();
        if let Some(list) = self.roles.get(ADDITIONAL).filter(|list| !list.is_null()) {
            let list: Vec<Named> = self.parse(ADDITIONAL, list)?;
            tokens.extend(list.into_iter().map(AddedToken::from));
        }
        Ok(tokens)
    }

    /// The token with the role `role`.
    pub(super) fn role(&self, role: &str, defaults: &[(&str, &str)]) -> Result<Option<AddedToken>> {
        match self.roles.get(role) {
            None => {
                let default = defaults.iter().find(|(key, _)| *key == role);
                Ok(default.map(|(_, content)| AddedToken::plain(content)))
            }
            Some(Value::Null) => Ok(None),
            Some(value) => Ok(Some(self.parse::<Named>(role, value)?.into())),
        }
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Result<T> {
        let parsed = T::deserialize(value).map_err(Error::invalid);
        parsed.map_err(|e| self.place(e.at(key)))
    }

    /// Refuses settings that would change the ids and that no published model has.
    pub(super) fn refuse_unsupported(&self) -> Result<()> {
        if self.config.split_special_tokens == Some(true) {
            return Err(self.unsupported("split_special_tokens: expected false, got true"));
        }
        if let Some(options) = &self.config.sp_model_kwargs
            && !options.is_empty()
        {
            let keys: Vec<_> = options.keys().map(String::as_str).collect();
            return Err(self.unsupported(&format!(
                "sp_model_kwargs: expected none, got {}",
                keys.join(", ")
            )));
        }
        let single = self.added.values().find(|token| token.single_word);
        if let Some(token) = single {
            return Err(self.unsupported(&format!(
                "added token {}: single_word is not supported",
                token.content
            )));
        }
        Ok(())
    }

    fn unsupported(&self, problem: &str) -> Error {
        self.place(Error::invalid(problem))
    }

    /// `error` with the file put before it.
    pub(super) fn place(&self, error: Error) -> Error {
        error.at(self.file.display())
    }
}

/// special_tokens_map.json, which overrides roles; its additional tokens come after those of `config`.
fn older_roles(folder: &Path, config: &Map<String, Value>) -> Result<Map<String, Value>> {
    let file = folder.join("special_tokens_map.json");
    let mut roles: Map<String, Value> = read_json(&file)?.unwrap_or_default();
    let before = config.get(ADDITIONAL).and_then(Value::as_array);
    if let (Some(before), Some(Value::Array(list))) = (before, roles.get_mut(ADDITIONAL)) {
        let first = before.iter().cloned();
        *list = first.chain(list.drain(..)).collect();
    }
    Ok(roles)
}

/// added_tokens.json, overridden by a tokenizer.json for the same ids.
fn older_added(folder: &Path) -> Result<BTreeMap<u32, AddedToken>> {
    let ids: Option<HashMap<String, u32>> = read_json(&folder.join("added_tokens.json"))?;
    let ids = ids.unwrap_or_default().into_iter();
    let mut added: BTreeMap<_, _> = ids
        .map(|(content, id)| (id, AddedToken::plain(&content)))
        .collect();
    let json: Option<Json> = read_json(&folder.join("tokenizer.json"))?;
    let json = json.into_iter().flat_map(|json| json.added_tokens);
    added.extend(json.map(|JsonToken { id, token }| (id, token)));
    Ok(added)
}

/// `None` for a file that does not exist.
fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    if !file.is_file() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&read_file(file)?).map_err(Error::invalid);
    parsed.map(Some).map_err(|e| e.at(file.display()))
}
