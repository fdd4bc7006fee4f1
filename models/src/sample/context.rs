//! Keys that rows of every format may have next to their prompt: a system message, earlier turns and a margin.

use serde_json::value::RawValue;

use super::fields::{Fields, typed};
use super::preference::PreferenceRow;
use super::{keys, messages};
use crate::chat::{Message, Prompt, Role};
use crate::{Error, Result};

/// The keys of a system message; [`keys`] knows more spellings, which are refused.
const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];
const HISTORY: &str = "history";

/// The keys of what comes before a prompt.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    SYSTEM.into_iter().chain([HISTORY])
}

/// What comes before a row's prompt.
pub(super) struct Context {
    system: Option<Message>,
    history: Vec<Message>,
}

impl Context {
    /// Reads a system message and the earlier turns of a row.
    ///
    /// # Errors
    /// Two system messages, or turns that are neither pairs of texts nor messages.
    pub(super) fn read(fields: &Fields) -> Result<Self> {
        let mut system = None;
        for key in SYSTEM.iter().filter(|key| is_text(fields, key)) {
            let message = Message::system(fields.string(key)?);
            if system.replace(message).is_some() {
                return Err(two_systems().at(key));
            }
        }
        let is_list = fields.is_list(HISTORY);
        let history = is_list.then(|| fields.get(HISTORY)).flatten();
        let history = history.map(|list| turns(list).map_err(|e| e.at(HISTORY)));
        Ok(Self {
            system,
            history: history.transpose()?.unwrap_or_default(),
        })
    }

    /// Puts itself before `prompt`, which becomes a conversation about these numbers of `images` (one for each side
    /// of a pair).
    ///
    /// # Errors
    /// The prompt has a system message or earlier turns itself, or a conversation that no template has.
    pub(super) fn extend(&self, prompt: &mut Prompt, images: &[usize]) -> Result<()> {
        if self.system.is_none() && self.history.is_empty() {
            return Ok(());
        }
        let own = match std::mem::take(prompt) {
            Prompt::Question(text) => vec![Message::user(text)],
            Prompt::Messages(messages) => messages,
        };
        if self.system.is_some() && own.iter().any(|m| m.role == Role::System) {
            return Err(two_systems());
        }
        if !self.history.is_empty() && own.len() > 1 {
            let problem = "expected earlier turns in the messages or under history, got both";
            return Err(Error::invalid(problem));
        }
        let before = self.system.iter().chain(&self.history).cloned();
        *prompt = Prompt::Messages(before.chain(own).collect());
        images.iter().try_for_each(|&images| prompt.check(images))
    }
}

/// Adds the row's context and margin to each of its pairs.
///
/// # Errors
/// Those of [`Context`], or a margin that is no number.
pub(super) fn add(fields: &Fields, row: &mut PreferenceRow) -> Result<()> {
    let (context, margin) = (Context::read(fields)?, margin(fields)?);
    for pair in &mut row.pairs {
        pair.margin = margin;
        let images = [pair.chosen_images.len(), pair.rejected_images.len()];
        context.extend(&mut pair.prompt, &images)?;
    }
    match &mut row.candidates {
        Some(rated) => context.extend(&mut rated.prompt, &[rated.images.len()]),
        None => Ok(()),
    }
}

fn margin(fields: &Fields) -> Result<f64> {
    let is_blank = fields.peek("margin").is_some_and(keys::is_blank);
    match is_blank {
        true => Ok(0.0),
        false => fields.number_or("margin", 0.0),
    }
}

fn is_text(fields: &Fields, key: &str) -> bool {
    let text = fields.peek(key).filter(|json| !keys::is_blank(json));
    text.is_some_and(|json| json.starts_with('"'))
}

fn two_systems() -> Error {
    Error::invalid("expected one system message, got two")
}

/// Turns as pairs of question and answer, or as messages.
fn turns(list: &RawValue) -> Result<Vec<Message>> {
    let items: Vec<&RawValue> = typed(list, "a list of turns")?;
    if items.iter().any(|item| item.get().starts_with('{')) {
        return messages::texts(list);
    }
    let mut turns = Vec::new();
    for (index, pair) in items.into_iter().enumerate() {
        let pair = typed::<[String; 2]>(pair, "a question and its answer");
        let [question, answer] = pair.map_err(|e| e.at(format!("[{index}]")))?;
        turns.extend([Message::user(question), Message::assistant(answer)]);
    }
    Ok(turns)
}
