//! SentencePiece's BPE models (`tokenizer.model`): Llama's, Phi3's and InternLM2's vocabularies.

mod bpe;
mod model;
mod proto;

use std::collections::HashSet;

use super::engine::Specials;
use super::words::{BLANK, Words};
use crate::Result;
pub(super) use model::Model;
use model::Reading;

/// Appends the ids of `text`, each with the byte that it starts at.
fn encode(model: &Model, text: &str, specials: Specials, into: &mut Vec<(u32, usize)>) {
    let reading = match specials {
        Specials::Parsed => &model.parsed,
        Specials::AsText => &model.as_text,
    };
    let normal = model.normalise(text);
    let mut after_unknown = false;
    for range in bpe::merge(model, reading, normal.text()) {
        let start = normal.origin(range.start);
        let word = &normal.text()[range];
        let id = model.ids.get(word).copied().unwrap_or(model.unknown);
        let is_unknown = id == model.unknown;
        match &model.bytes {
            Some(bytes) if is_unknown => {
                into.extend(word.bytes().map(|byte| (bytes[usize::from(byte)], start)));
            }
            // Several unknown characters in a row are one token.
            None if is_unknown && after_unknown => {}
            _ => into.push((id, start)),
        }
        after_unknown = is_unknown;
    }
}

/// A model under the rules of Python's tokenizers.
pub(super) struct SentencePiece {
    model: Model,
    /// The unknown token's name and its number of pieces. With `legacy: false` (Llama), a text that begins with a blank is
    /// encoded after that name: the model would otherwise drop its leading blanks.
    guard: Option<(String, usize)>,
}

impl SentencePiece {
    pub(super) fn new(mut model: Model, legacy: bool) -> Result<Self> {
        if legacy {
            return Ok(Self { model, guard: None });
        }
        model.dummy_prefix = false;
        let name = model.piece(model.unknown).text.clone();
        let mut pieces = Vec::new();
        encode(&model, &name, Specials::Parsed, &mut pieces);
        let guard = Some((name, pieces.len()));
        Ok(Self { model, guard })
    }
}

impl Words for SentencePiece {
    fn encode(&self, text: &str, specials: Specials, into: &mut Vec<(u32, usize)>) -> Result<()> {
        let guard = self.guard.as_ref();
        match guard.filter(|_| text.starts_with([BLANK, ' '])) {
            None => encode(&self.model, text, specials, into),
            Some((name, count)) => {
                let mut guarded = Vec::new();
                let text = format!("{name}{text}");
                encode(&self.model, &text, specials, &mut guarded);
                let kept = guarded.into_iter().skip(*count);
                into.extend(kept.map(|(id, start)| (id, start.saturating_sub(name.len()))));
            }
        }
        Ok(())
    }

    fn set_special(&mut self, ids: HashSet<u32>) -> Result<()> {
        self.model.as_text = Reading::new(&self.model.pieces, ids)?;
        Ok(())
    }

    fn id(&self, word: &str) -> Option<u32> {
        self.model.ids.get(word).copied()
    }

    fn len(&self) -> usize {
        self.model.pieces.len()
    }
}
