//! A `tokenizer.json`, by the tokenizers crate: the file of Python classes whose name ends in Fast.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use tokenizers::{
    AddedToken, Encoding, Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString,
    PreTokenizer, Token, Tokenizer, normalizer,
};

use super::engine::{Additions, Engine, Piece, Tokens, is_crossed, no_token, refused};
use super::files::read_file;
use crate::{Error, Result};

pub(super) struct Json {
    inner: Tokenizer,
    added: HashMap<String, AddedToken>,
    vocabulary: usize,
    new: usize,
    /// Whether texts get the tokens that the file adds to every text.
    adds_specials: bool,
}

impl Json {
    pub(super) fn read(file: &Path, additions: Additions) -> Result<Self> {
        let inner = parse(&read_file(file)?).map_err(|e| e.at(file.display()))?;
        Ok(Self::new(inner, additions))
    }

    fn new(mut inner: Tokenizer, additions: Additions) -> Self {
        // The prompt cuts and the forest pads.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        let new = add_tokens(&mut inner, additions.vision_tokens());
        let last = inner.get_vocab(true).into_values().max();
        Self {
            added: added_tokens(&inner),
            vocabulary: last.map_or(0, |id| id as usize + 1),
            inner,
            new,
            adds_specials: additions == Additions::Published,
        }
    }

    fn encode_cut(&self, text: &str, cuts: &[Cut]) -> tokenizers::Result<Encoding> {
        let mut parts = PreTokenizedString::from(text);
        parts.split(|_, whole| split(&whole, cuts))?;
        if let Some(normalizer) = self.inner.get_normalizer() {
            parts.normalize(|part| normalizer.normalize(part))?;
        }
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        parts.tokenize(|part| self.inner.get_model().tokenize(part.get()))?;
        let encoding = parts.into_encoding(None, 0, OffsetType::Byte)?;
        self.inner.post_process(encoding, None, self.adds_specials)
    }

    /// The places in `text` of the tokens among `pieces`, in order.
    fn cuts(&self, text: &str, pieces: &[Piece]) -> Result<Vec<Cut>> {
        let mut cuts: Vec<Cut> = Vec::new();
        let mut start = 0;
        for piece in pieces {
            let end = start + piece.as_str().len();
            if let Piece::Token(token) = piece {
                let free = cuts.last().map_or(0, |cut| cut.range.end);
                cuts.push(self.cut(text, free, start..end, token)?);
            }
            start = end;
        }
        Ok(cuts)
    }

    /// One token, with the white space that its `lstrip` and `rstrip` swallow; nothing before `free`.
    fn cut(&self, text: &str, free: usize, token: Range<usize>, name: &str) -> Result<Cut> {
        let added = self.added.get(name).ok_or_else(|| no_token(name))?;
        let id = self.id(name).ok_or_else(|| no_token(name))?;
        let Range { mut start, mut end } = token;
        if added.lstrip {
            start = start.min(free.max(text[..start].trim_end().len()));
        }
        if added.rstrip {
            end = text.len() - text[end..].trim_start().len();
        }
        let range = start..end;
        Ok(Cut { range, id })
    }
}

impl Engine for Json {
    fn encode_parsed(&self, text: &str) -> Result<Tokens> {
        let encoded = self.inner.encode(text, self.adds_specials);
        encoded.map(tokens).map_err(refused)
    }

    fn encode_pieces(&self, pieces: &[Piece]) -> Result<Tokens> {
        let text: String = pieces.iter().map(Piece::as_str).collect();
        let cuts = self.cuts(&text, pieces)?;
        self.encode_cut(&text, &cuts).map(tokens).map_err(refused)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn adds(&self, token: &str) -> bool {
        self.added.contains_key(token)
    }

    fn cuts_before(&self, token: &str) -> bool {
        let added = self.added.get(token);
        added.is_some_and(|added| !(added.lstrip || added.single_word || added.normalized))
            && !is_crossed(token, self.added.keys())
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn new_tokens(&self) -> usize {
        self.new
    }
}

/// A token at a known place of a text.
struct Cut {
    range: Range<usize>,
    id: u32,
}

type Part = (NormalizedString, Option<Vec<Token>>);

/// Cuts `whole` into its tokens and the text between them.
fn split(whole: &NormalizedString, cuts: &[Cut]) -> tokenizers::Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut done = 0;
    for cut in cuts {
        parts.push((slice(whole, done..cut.range.start)?, None));
        let part = slice(whole, cut.range.clone())?;
        let token = Token::new(cut.id, part.get().to_owned(), (0, cut.range.len()));
        parts.push((part, Some(vec![token])));
        done = cut.range.end;
    }
    parts.push((slice(whole, done..whole.get().len())?, None));
    Ok(parts)
}

fn slice(whole: &NormalizedString, range: Range<usize>) -> tokenizers::Result<NormalizedString> {
    let place = normalizer::Range::Normalized(range.clone());
    let outside = || format!("no text at {range:?}").into();
    whole.slice(place).ok_or_else(outside)
}

fn tokens(encoding: Encoding) -> Tokens {
    Tokens {
        ids: encoding.get_ids().to_vec(),
        starts: encoding.get_offsets().iter().map(|o| o.0).collect(),
    }
}

fn added_tokens(inner: &Tokenizer) -> HashMap<String, AddedToken> {
    let tokens = inner.get_added_tokens_decoder().into_values();
    tokens.map(|token| (token.content.clone(), token)).collect()
}

/// Adds those of `wanted` that are not added tokens yet. Returns the number of those that were not even in the vocabulary.
fn add_tokens(inner: &mut Tokenizer, wanted: &[&str]) -> usize {
    let added = added_tokens(inner);
    let missing = wanted.iter().filter(|token| !added.contains_key(**token));
    let missing: Vec<_> = missing
        .map(|token| AddedToken::from(*token, true))
        .collect();
    let unknown = missing
        .iter()
        .filter(|token| inner.token_to_id(&token.content).is_none());
    let new = unknown.count();
    inner.add_special_tokens(&missing);
    new
}

fn parse(bytes: &[u8]) -> Result<Tokenizer> {
    let inner = Tokenizer::from_bytes(bytes).map_err(Error::invalid)?;
    let declared = serde_json::from_slice::<Declared>(bytes).map_err(Error::invalid)?;
    declared.check(&inner)?;
    Ok(inner)
}

/// The added tokens that a tokenizer.json declares. The tokenizers crate only logs an id that does not follow from the
/// vocabulary, and every later id would pick the wrong embedding.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

impl Declared {
    fn check(&self, inner: &Tokenizer) -> Result<()> {
        for DeclaredToken { id, content } in &self.added_tokens {
            let got = inner.token_to_id(content);
            if got != Some(*id) {
                let got = got.map_or("none".into(), |id| id.to_string());
                return Err(Error::invalid(format!(
                    "added token {content}: expected id {id}, but its place in the vocabulary gives {got}"
                )));
            }
        }
        Ok(())
    }
}
